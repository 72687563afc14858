"""What the GPU does faster than PyTorch: Triton kernels, each beside a plain-torch twin of the same name and signature.

May import: torch, triton. Never models, appliance or tui.
    ops          the operations models call, registered once: Triton on CUDA, the twin on the CPU
    dispatch     which way each operation goes on which device: one table, by compute capability and name
    tiles        how much of a matrix product one program takes, by shape class and compute capability
    reference    every operation in plain torch: the specification, and the CPU implementation
    reference_attention  the same for attention and what prepares its inputs
    reference_vae  the same for what an autoencoder does between its convolutions
    rotary       a film's positions as rotations: which channels turn with what, and the one small table of angles
    hadamard     the rotation that spreads outliers over a block, for rows here and for weights offline
    rows         what the three below share: a row in registers, its norm, rotation and rounding
    quant_rows   K5: float rows -> int8 rows with one scale each, GELU and Hadamard first where asked
    ln_mod_quant K1: the residual stream -> LayerNorm, gain and shift, then int8 rows
    gate_res_norm_quant  K3: a branch's result joins the stream through its gate; then as K1, or nothing more
    qk_rmsnorm_rope_quant  K2: rows of queries or keys -> normed, turned by place, in their dtype or int8 by head
    scale_values K2 for values: divided by powers of two, so that nothing overflows, in float16 or float8
    attn_int8    K6: attention with int8 scores, float16 or float8 values, blocks left out where asked
    packing      the int8 and int4 layouts, with a diagram, and how float weights become int4
    dequant_int4 K7: int4 groups -> int8 rows
    int8_linear  K4: int8 rows x int8 matrix -> float rows; scales, bias and GELU in the epilogue
    vae_rmsnorm_silu  K8: between an autoencoder's convolutions: norm and SiLU behind past frames, bias and residual,
                 pixels twice as large
    raycast      a film of boxes and capsules on a floor, a ray at a time: no operation, as its twin is models.stage
    absent       a GPU that is not here: launchers compile for it and launch nothing
    cases        every launch that matters, without data
    compiled     what every kernel takes on every card, as a command: registers, spills, shared memory, instructions
    driver       how Triton gets the C module that launches kernels, also where there is no compiler
    prebuild     that module, and compiled kernels, made ahead of time, as a command; prebuilt/ holds those that ship
    bench        every operation on this card against what one would use instead, as a command; what it found is kept
                 in measured/
    bench_cases  its cases; bench_case: what one is, and how it is compared with its twin
    rivals       its baselines; timing: how a call is timed; report: goals, and the document that a run leaves

`ops` and `reference*` never load Triton; the kernel files (K1 to K8, raycast) do, and are loaded at the first call on
CUDA.
"""
