"""Runs the Triton kernels in Triton's interpreter: `python interpret.py CASES RESULTS` with TRITON_INTERPRET=1.

A program of its own because Triton decides once, when it is imported, whether to interpret. CASES and RESULTS are
torch.save files of lists: (kernel name, arguments of its launcher), and what each launch returned.
"""

import sys

import torch

from kernels import int8_linear, quant_rows

KERNELS = {"quant_rows": quant_rows.launch, "int8_linear": int8_linear.launch}
cases = torch.load(sys.argv[1], weights_only=True)
torch.save([KERNELS[name](*arguments) for name, arguments in cases], sys.argv[2])
