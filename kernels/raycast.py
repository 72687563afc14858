"""Ray caster for the procedural stage on a GPU: a film of boxes and capsules on a floor.

For each frame and pixel, SAMPLES x SAMPLES rays: nearest surface, paint, the light of each lamp with its shadow,
highlights and air; their mean in linear light. There is no culling, so no thread waits for data-dependent loads: two
loops over solids for the ray, two for each lamp.

Every table is float32, one row per solid, lamp, surface or frame; positions are in metres, relative to the frame's eye:

    frames    (T, 20)     rotation camera to world (9), eye (3), focal length in pixels, exposure (a factor),
                          ambient light (3), and 3 that are not read here
    boxes     (T, N, 8)   centre (3), half extents (3), cosine and sine of the rotation about the vertical
    capsules  (T, N, 8)   one end (3), from there to the other (3), radius, radius of a bounding ball
    lamps     (T, N, 8)   direction towards it (3), light (3), tangent of half its angular width, highlight exponent
    surfaces  (S, 8)      reflectance (3), that of the other checks (3), period of the pattern in metres, and one that
                          is not read: the floor, then boxes, then capsules
    scene     (8,)        sky at the top (3), at the horizon (3), strength of highlights, range of the air in metres
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

FRAME, ROW = 20, 8  # columns of `frames`, and of the other tables
BLOCK = 256  # pixels per program
FAR = 1.0e4  # metres: the depth of the sky; nothing is farther
_FAR, _PI = tl.constexpr(FAR), tl.constexpr(3.141592653589793)
_FRAME, _ROW = tl.constexpr(FRAME), tl.constexpr(ROW)


@triton.jit
def chord(box, x, y, z, dx, dy, dz):
    """Slab test: the distances at which rays from x, y, z enter and leave a box; near > far where they miss."""
    x -= tl.load(box)
    y -= tl.load(box + 1)
    z -= tl.load(box + 2)
    c, s = tl.load(box + 6), tl.load(box + 7)
    near, far = slab(c * x - s * z, c * dx - s * dz, tl.load(box + 3), -_FAR, _FAR)
    near, far = slab(y, dy, tl.load(box + 4), near, far)
    return slab(s * x + c * z, s * dx + c * dz, tl.load(box + 5), near, far)


@triton.jit
def slab(origin, slope, half, near, far):
    """Narrow [near, far] to the part of a ray between the planes at -half and half of one axis."""
    inverse = 1.0 / tl.where(tl.abs(slope) < 1e-8, 1e-8, slope)
    first, second = (-half - origin) * inverse, (half - origin) * inverse
    return tl.maximum(tl.minimum(first, second), near), tl.minimum(tl.maximum(first, second), far)


@triton.jit
def hit_capsule(capsule, dx, dy, dz):
    """Distance along rays from the eye to a capsule, _FAR where they miss."""
    ax, ay, az = tl.load(capsule + 3), tl.load(capsule + 4), tl.load(capsule + 5)
    mx, my, mz = tl.load(capsule) + 0.5 * ax, tl.load(capsule + 1) + 0.5 * ay, tl.load(capsule + 2) + 0.5 * az
    radius, reach = tl.load(capsule + 6), tl.load(capsule + 7)
    length2, r2 = ax * ax + ay * ay + az * az, radius * radius
    # Each ray starts at its closest point to the middle: float32 then cancels centimetres, not tens of metres.
    start = mx * dx + my * dy + mz * dz
    ox, oy, oz = start * dx - mx, start * dy - my, start * dz - mz
    px, py, pz = ox + 0.5 * ax, oy + 0.5 * ay, oz + 0.5 * az  # from the first end
    da, oa = ax * dx + ay * dy + az * dz, ax * px + ay * py + az * pz
    do, oo = dx * px + dy * py + dz * pz, px * px + py * py + pz * pz
    qa = tl.maximum(length2 - da * da, 1e-9)
    qb = length2 * do - oa * da
    room = qb * qb - qa * (length2 * (oo - r2) - oa * oa)
    side = (-qb - tl.sqrt(tl.maximum(room, 0.0))) / qa
    along = oa + side * da
    on_side = (room >= 0) & (along > 0) & (along < length2)
    end = tl.where(along > 0, -0.5, 0.5)  # which cap. A ball, of no length, has its middle at both
    ex, ey, ez = ox + end * ax, oy + end * ay, oz + end * az
    eb = ex * dx + ey * dy + ez * dz
    cap = eb * eb - (ex * ex + ey * ey + ez * ez - r2)
    t = tl.where(on_side, side, -eb - tl.sqrt(tl.maximum(cap, 0.0)))
    hit = (on_side | (cap >= 0)) & (tl.abs(t) < 2 * reach)
    t += start
    return tl.where(hit & (t > 1e-4), t, _FAR)


@triton.jit
def past_box(box, x, y, z, lx, ly, lz, spread):
    """Visible fraction of a lamp behind a box: length of the chord relative to the width of the lamp's cone there."""
    near, far = chord(box, x, y, z, lx, ly, lz)
    start = tl.maximum(near, 1e-3)
    return 1.0 - tl.minimum(tl.maximum((far - start) / (start * (2.0 * spread) + 1e-3), 0.0), 1.0)


@triton.jit
def past_capsule(capsule, x, y, z, lx, ly, lz, spread):
    """Visible fraction of a lamp behind a capsule: closest approach to its axis relative to the lamp's cone there."""
    x -= tl.load(capsule)
    y -= tl.load(capsule + 1)
    z -= tl.load(capsule + 2)
    ax, ay, az = tl.load(capsule + 3), tl.load(capsule + 4), tl.load(capsule + 5)
    length2 = tl.maximum(ax * ax + ay * ay + az * az, 1e-10)
    la = lx * ax + ly * ay + lz * az
    ol, oa = x * lx + y * ly + z * lz, x * ax + y * ay + z * az
    h = (oa - ol * la) / tl.maximum(length2 - la * la, 1e-9)
    h = tl.minimum(tl.maximum(h, 0.0), 1.0)
    t = tl.maximum(h * la - ol, 1e-3)
    gx, gy, gz = x + t * lx - h * ax, y + t * ly - h * ay, z + t * lz - h * az
    gap = tl.sqrt(gx * gx + gy * gy + gz * gz) - tl.load(capsule + 6)
    seen = tl.minimum(tl.maximum(0.5 + gap / (t * (2.0 * spread) + 1e-3), 0.0), 1.0)
    return seen * seen * (3.0 - 2.0 * seen)


@triton.jit
def box_normal(boxes, row, mask, x, y, z):
    """Outward normals at points on the boxes of these rows; undefined where the mask is false."""
    row = boxes + row * _ROW
    x -= tl.load(row, mask=mask, other=0.0)
    y -= tl.load(row + 1, mask=mask, other=0.0)
    z -= tl.load(row + 2, mask=mask, other=0.0)
    c, s = tl.load(row + 6, mask=mask, other=1.0), tl.load(row + 7, mask=mask, other=0.0)
    x, z = c * x - s * z, s * x + c * z
    sx = tl.abs(x) / tl.load(row + 3, mask=mask, other=1.0)
    sy = tl.abs(y) / tl.load(row + 4, mask=mask, other=1.0)
    sz = tl.abs(z) / tl.load(row + 5, mask=mask, other=1.0)
    top = tl.maximum(tl.maximum(sx, sy), sz)
    nx = tl.where(sx >= top, tl.where(x < 0, -1.0, 1.0), 0.0)
    ny = tl.where(sy >= top, tl.where(y < 0, -1.0, 1.0), 0.0)
    nz = tl.where(sz >= top, tl.where(z < 0, -1.0, 1.0), 0.0)
    return c * nx + s * nz, ny, c * nz - s * nx


@triton.jit
def capsule_normal(capsules, row, mask, x, y, z):
    """Outward normals at points on the capsules of these rows; undefined where the mask is false."""
    row = capsules + row * _ROW
    x -= tl.load(row, mask=mask, other=0.0)
    y -= tl.load(row + 1, mask=mask, other=0.0)
    z -= tl.load(row + 2, mask=mask, other=0.0)
    ax = tl.load(row + 3, mask=mask, other=0.0)
    ay = tl.load(row + 4, mask=mask, other=0.0)
    az = tl.load(row + 5, mask=mask, other=0.0)
    inverse = 1.0 / tl.load(row + 6, mask=mask, other=1.0)
    h = (x * ax + y * ay + z * az) / tl.maximum(ax * ax + ay * ay + az * az, 1e-10)
    h = tl.minimum(tl.maximum(h, 0.0), 1.0)
    return (x - h * ax) * inverse, (y - h * ay) * inverse, (z - h * az) * inverse


@triton.jit
def wave(x):
    """sin(pi x): reduced to a quarter period, then the Taylor series to the ninth power, within 4e-6."""
    x -= 2.0 * tl.floor(0.5 * x + 0.5)
    quarter = _PI * tl.minimum(tl.abs(x), 1.0 - tl.abs(x))
    square = quarter * quarter
    sine = 1.0 - square * (1 / 6) * (1.0 - square * (1 / 20) * (1.0 - square * (1 / 42) * (1.0 - square * (1 / 72))))
    return tl.where(x < 0, -quarter, quarter) * sine


@triton.jit
def checks(x, period, edge):
    """A checker pattern along one axis, -1 .. 1; `edge` is the steepness of its edges."""
    return tl.minimum(tl.maximum(edge * wave(x / period), -1.0), 1.0)


@triton.jit(do_not_specialize=["height", "width", "boxes", "capsules", "lamps"])
def raycast_kernel(
    frames_ptr, boxes_ptr, capsules_ptr, lamps_ptr, surfaces_ptr, scene_ptr, finished_ptr, previs_ptr, depth_ptr,
    height, width, boxes, capsules, lamps, SAMPLES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(1)
    frame = frames_ptr + t * _FRAME
    boxes_ptr += t * boxes * _ROW
    capsules_ptr += t * capsules * _ROW
    lamps_ptr += t * lamps * _ROW
    r0, r1, r2 = tl.load(frame), tl.load(frame + 1), tl.load(frame + 2)
    r3, r4, r5 = tl.load(frame + 3), tl.load(frame + 4), tl.load(frame + 5)
    r6, r7, r8 = tl.load(frame + 6), tl.load(frame + 7), tl.load(frame + 8)
    eye_x, eye_y, eye_z = tl.load(frame + 9), tl.load(frame + 10), tl.load(frame + 11)
    focal, gain = tl.load(frame + 12), tl.load(frame + 13)

    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    left, top = (pixel % width) * SAMPLES, (pixel // width) * SAMPLES
    none = tl.zeros((BLOCK,), dtype=tl.float32)
    finished_r, finished_g, finished_b, previs_r, previs_g, previs_b, depth = none, none, none, none, none, none, none
    for sample in range(SAMPLES * SAMPLES):
        u = (left + sample % SAMPLES).to(tl.float32) + 0.5 - 0.5 * (width * SAMPLES)
        v = (top + sample // SAMPLES).to(tl.float32) + 0.5 - 0.5 * (height * SAMPLES)
        u, v = u / (focal * SAMPLES), v / (focal * SAMPLES)
        cosine = 1.0 / tl.sqrt(u * u + v * v + 1.0)
        dx = (r0 * u + r1 * v + r2) * cosine
        dy = (r3 * u + r4 * v + r5) * cosine
        dz = (r6 * u + r7 * v + r8) * cosine

        # The nearest surface: -1 sky, 0 floor, then the boxes, then the capsules.
        down = tl.where(eye_y > 0, dy, 0.0) < -1e-6
        near = tl.where(down, -eye_y / tl.where(down, dy, -1.0), _FAR)
        index = tl.where(near < _FAR, 0, -1)
        near = tl.minimum(near, _FAR)
        for i in range(boxes):
            first, last = chord(boxes_ptr + i * _ROW, 0.0, 0.0, 0.0, dx, dy, dz)
            closer = (first <= last) & (first > 1e-4) & (first < near)
            near = tl.where(closer, first, near)
            index = tl.where(closer, i + 1, index)
        for i in range(capsules):
            first = hit_capsule(capsules_ptr + i * _ROW, dx, dy, dz)
            closer = first < near
            near = tl.where(closer, first, near)
            index = tl.where(closer, i + 1 + boxes, index)

        sky = index < 0
        reach = tl.where(sky, 1.0, near)
        x, y, z = reach * dx, reach * dy, reach * dz  # from the eye
        box, capsule = (index > 0) & (index <= boxes), index > boxes
        bx, by, bz = box_normal(boxes_ptr, index - 1, box, x, y, z)
        cx, cy, cz = capsule_normal(capsules_ptr, index - 1 - boxes, capsule, x, y, z)
        nx = tl.where(box, bx, tl.where(capsule, cx, 0.0))
        ny = tl.where(box, by, tl.where(capsule, cy, tl.where(sky, 0.0, 1.0)))
        nz = tl.where(box, bz, tl.where(capsule, cz, 0.0))

        # Paint. Patterns lie in the plane of the surface: x and z on floors, the horizontal direction and y on walls.
        surface = surfaces_ptr + tl.maximum(index, 0) * _ROW
        period = tl.load(surface + 6)
        upward = tl.abs(ny) > 0.7
        across = tl.where(upward | (tl.abs(nz) >= tl.abs(nx)), x + eye_x, z + eye_z)
        along = tl.where(upward, z + eye_z, y + eye_y)
        # Antialiasing by the metres that a pixel covers: edges of checks are no sharper, and finer checks fade.
        steep = tl.minimum(tl.maximum(tl.abs(dx * nx + dy * ny + dz * nz), 0.05), 1.0)
        plain = period <= 0
        period = tl.where(plain, 1.0, period)
        edge = tl.minimum(period * (focal * steep * cosine) / (_PI * near), 12.0)
        mix = 0.5 + 0.5 * checks(across, period, edge) * checks(along, period, edge)
        mix = tl.where(plain, 1.0, mix)
        red, green, blue = tl.load(surface + 3), tl.load(surface + 4), tl.load(surface + 5)
        red += mix * (tl.load(surface) - red)
        green += mix * (tl.load(surface + 1) - green)
        blue += mix * (tl.load(surface + 2) - blue)

        dome = 0.6 + 0.4 * ny
        light_r, light_g, light_b = (
            dome * tl.load(frame + 14),
            dome * tl.load(frame + 15),
            dome * tl.load(frame + 16),
        )
        gloss_r, gloss_g, gloss_b = none, none, none
        for i in range(lamps):
            lamp = lamps_ptr + i * _ROW
            lx, ly, lz, spread = tl.load(lamp), tl.load(lamp + 1), tl.load(lamp + 2), tl.load(lamp + 6)
            facing = tl.minimum(tl.maximum(nx * lx + ny * ly + nz * lz, 0.0), 1.0)
            # 2 mm off the surface, towards the lamp, so that a point does not shadow itself.
            px, py, pz = x + 2e-3 * lx, y + 2e-3 * ly, z + 2e-3 * lz
            seen = tl.where(sky, 0.0, 1.0)
            for j in range(boxes):
                seen = tl.minimum(seen, past_box(boxes_ptr + j * _ROW, px, py, pz, lx, ly, lz, spread))
            for j in range(capsules):
                seen = tl.minimum(seen, past_capsule(capsules_ptr + j * _ROW, px, py, pz, lx, ly, lz, spread))
            share = facing * seen
            # Blinn-Phong: the half vector between lamp and lens.
            hx, hy, hz = lx - dx, ly - dy, lz - dz
            toward = tl.maximum(hx * nx + hy * ny + hz * nz, 0.0) / tl.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
            shine = tl.exp2(tl.load(lamp + 7) * tl.log2(tl.maximum(toward, 1e-12)))
            shine *= share * tl.load(scene_ptr + 6)
            lamp_r, lamp_g, lamp_b = tl.load(lamp + 3), tl.load(lamp + 4), tl.load(lamp + 5)
            light_r += share * lamp_r
            light_g += share * lamp_g
            light_b += share * lamp_b
            gloss_r += shine * lamp_r
            gloss_g += shine * lamp_g
            gloss_b += shine * lamp_b

        high = tl.minimum(tl.maximum(2.0 * dy, 0.0), 1.0)
        clear = tl.where(sky, 1.0, tl.exp(-near / tl.load(scene_ptr + 7)))
        horizon_r, horizon_g, horizon_b = tl.load(scene_ptr + 3), tl.load(scene_ptr + 4), tl.load(scene_ptr + 5)
        red = tl.where(sky, horizon_r + high * (tl.load(scene_ptr) - horizon_r), red * light_r)
        green = tl.where(sky, horizon_g + high * (tl.load(scene_ptr + 1) - horizon_g), green * light_g)
        blue = tl.where(sky, horizon_b + high * (tl.load(scene_ptr + 2) - horizon_b), blue * light_b)
        previs_r += red
        previs_g += green
        previs_b += blue
        finished_r += (red + gloss_r) * clear + horizon_r * (1.0 - clear)  # gloss is 0 on the sky
        finished_g += (green + gloss_g) * clear + horizon_g * (1.0 - clear)
        finished_b += (blue + gloss_b) * clear + horizon_b * (1.0 - clear)
        # Depth must not be averaged: it is taken from the one ray just past the middle of the pixel.
        depth = tl.where(sample == (SAMPLES // 2) * (SAMPLES + 1), tl.where(sky, _FAR, near * cosine), depth)

    at = t.to(tl.int64) * height * width + pixel
    gain = gain / (SAMPLES * SAMPLES)
    tl.store(depth_ptr + at, depth, mask=inside)
    finished, previs = finished_ptr + at * 3, previs_ptr + at * 3
    tl.store(finished, finished_r * gain, mask=inside)
    tl.store(finished + 1, finished_g * gain, mask=inside)
    tl.store(finished + 2, finished_b * gain, mask=inside)
    tl.store(previs, previs_r * gain, mask=inside)
    tl.store(previs + 1, previs_g * gain, mask=inside)
    tl.store(previs + 2, previs_b * gain, mask=inside)


def launch(
    frames: Tensor, boxes: Tensor, capsules: Tensor, lamps: Tensor, surfaces: Tensor, scene: Tensor,
    height: int, width: int, samples: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Render the tables described above.

    Returns finished and previs (T, h, w, 3) in linear light and depth (T, h, w) in metres along the lens axis, FAR for
    the sky; all float32. `finished` has highlights and air, and no defocus.
    """
    finished, previs = (frames.new_empty((len(frames), height, width, 3)) for _ in range(2))
    depth = frames.new_empty((len(frames), height, width))
    raycast_kernel[(triton.cdiv(height * width, BLOCK), len(frames))](
        frames, boxes, capsules, lamps, surfaces, scene, finished, previs, depth,
        height, width, boxes.shape[1], capsules.shape[1], lamps.shape[1], samples, BLOCK,
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return finished, previs, depth
