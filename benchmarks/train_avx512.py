"""As train.py, for processors without tile registers (AMX): ours and the peers use the bf16 of AVX512 at most."""

import os

os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"  # before torch is loaded; ours obeys it too

import train

if __name__ == "__main__":
    train.main()
