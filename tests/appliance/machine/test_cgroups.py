"""What a container allows, on machines written out as their files."""

import pytest

from appliance.machine.cgroups import cgroup_memory, cgroup_swap_free, cores

MIB, GIB = 2**20, 2**30
NO_LIMIT_V1 = 9223372036854771712


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def member(tmp_path, text):
    (tmp_path / "self").write_text(text)
    return tmp_path / "self"


def test_version_2_limits_memory_and_its_page_cache_counts_as_free(tmp_path):
    root = tmp_path / "cgroup"
    group(root, "", memory__stat="inactive_file 0")
    group(root, "house", memory__max=8 * GIB, memory__current=5 * GIB, memory__stat=f"anon 1\ninactive_file {2 * GIB}")
    group(root, "house/rushes", memory__max="max", memory__current=GIB)
    membership = member(tmp_path, "0::/house/rushes\n")
    assert cgroup_memory(root, membership) == (8 * GIB, 5 * GIB)
    group(root, "house/rushes", memory__max=4 * GIB, memory__current=GIB)
    assert cgroup_memory(root, membership) == (4 * GIB, 3 * GIB)


def test_version_2_slows_down_above_high_which_is_as_good_as_a_limit(tmp_path):
    group(tmp_path, "box", memory__max=8 * GIB, memory__high=6 * GIB, memory__current=GIB)
    assert cgroup_memory(tmp_path, member(tmp_path, "0::/box\n")) == (6 * GIB, 5 * GIB)
    group(tmp_path, "box", memory__max="max", memory__high="max")
    assert cgroup_memory(tmp_path, member(tmp_path, "0::/box\n")) is None


def test_version_1(tmp_path):
    root = tmp_path / "cgroup"
    group(
        root, "memory/box", memory__limit_in_bytes=2 * GIB, memory__usage_in_bytes=GIB,
        memory__stat=f"total_inactive_file {512 * MIB}",
    )  # fmt: skip
    group(root, "memory", memory__limit_in_bytes=NO_LIMIT_V1, memory__usage_in_bytes=GIB)
    membership = member(tmp_path, "4:memory:/box\n1:cpu:/box\n0::/\n")
    assert cgroup_memory(root, membership) == (2 * GIB, GIB + 512 * MIB)


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path):
    """Docker mounts the group itself, while /proc/self/cgroup of version 1 still names the host's longer path."""
    root = tmp_path / "cgroup"
    group(root, "memory", memory__limit_in_bytes=3 * GIB, memory__usage_in_bytes=GIB)
    group(root, "cpu,cpuacct", cpu__cfs_quota_us=100000, cpu__cfs_period_us=100000)
    membership = member(tmp_path, "5:memory:/docker/0123abcd\n3:cpu,cpuacct:/docker/0123abcd\n")
    assert cgroup_memory(root, membership) == (3 * GIB, 2 * GIB) and cores(root, membership) == 1
    two = tmp_path / "two"
    group(two, "", memory__max=3 * GIB, memory__current=GIB, cpu__max="100000 100000")
    membership = member(tmp_path, "0::/\n")
    assert cgroup_memory(two, membership) == (3 * GIB, 2 * GIB) and cores(two, membership) == 1


def test_no_container_no_limit(tmp_path):
    assert cgroup_memory(tmp_path, tmp_path / "none") is None and cgroup_swap_free(tmp_path, tmp_path / "none") is None
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_memory(tmp_path, member(tmp_path, "0::/\n")) is None


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory__swap__max": GIB, "memory__swap__current": 256 * MIB}, 768 * MIB),
        ({"memory__swap__max": 0, "memory__swap__current": 0}, 0),
        ({"memory__swap__max": "max", "memory__swap__current": GIB}, None),
    ],
)
def test_swap_of_version_2(tmp_path, files, free):
    group(tmp_path, "box", **files)
    assert cgroup_swap_free(tmp_path, member(tmp_path, "0::/box\n")) == free


@pytest.mark.parametrize(
    ("both", "used", "free"), [(3 * GIB, GIB, GIB), (2 * GIB, GIB, 0), (NO_LIMIT_V1, GIB, None), (3 * GIB, 3 * GIB, 0)]
)
def test_version_1_counts_swap_and_memory_together(tmp_path, both, used, free):
    group(
        tmp_path, "memory/box", memory__limit_in_bytes=2 * GIB, memory__memsw__limit_in_bytes=both,
        memory__memsw__usage_in_bytes=used,
    )  # fmt: skip
    assert cgroup_swap_free(tmp_path, member(tmp_path, "4:memory:/box\n")) == free


@pytest.mark.parametrize(
    ("membership", "folder", "limited", "free"),
    [
        ("0::/box\n", "box", {"cpu__max": "50000 100000"}, {"cpu__max": "max 100000"}),
        (
            "3:cpu,cpuacct:/box\n", "cpu,cpuacct/box", {"cpu__cfs_quota_us": 50000, "cpu__cfs_period_us": 100000},
            {"cpu__cfs_quota_us": -1},
        ),
    ],
    ids=["version 2", "version 1"],
)  # fmt: skip
def test_a_quota_of_cpu_time_counts_as_cores(tmp_path, membership, folder, limited, free):
    here = member(tmp_path, membership)
    group(tmp_path, folder, **limited)
    assert cores(tmp_path, here) == 1
    group(tmp_path, folder, **free)
    assert cores(tmp_path, here) == cores(tmp_path, tmp_path / "none") >= 1
