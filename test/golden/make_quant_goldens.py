"""Blocks of each GGUF number format and what the Python package `gguf` expands them to.

Run: python test/golden/make_quant_goldens.py   (needs numpy and gguf; writes quant-blocks.json beside this file)

Levels are random bits; half-precision scales are random normal numbers. Formats that the package can also pack have a second entry: random values
and the bytes that it packs them into.
"""

import base64
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as types
from gguf import quants

# byte offsets of half-precision fields in a block
HALVES = {
    types.Q4_0: [0], types.Q4_1: [0, 2], types.Q5_0: [0], types.Q5_1: [0, 2], types.Q8_0: [0],
    types.Q2_K: [80, 82], types.Q3_K: [108], types.Q4_K: [0, 2], types.Q5_K: [0, 2], types.Q6_K: [208],
    types.IQ4_NL: [0], types.IQ4_XS: [0], types.MXFP4: [], types.IQ2_XXS: [0], types.IQ2_XS: [0], types.IQ2_S: [0], types.IQ3_XXS: [0], types.IQ3_S: [0],
    types.IQ1_S: [0], types.IQ1_M: [], types.TQ1_0: [52], types.TQ2_0: [64],
}
PACKED_TOO = [types.Q4_0, types.Q4_1, types.Q5_0, types.Q5_1, types.TQ1_0, types.TQ2_0]


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def main():
    random = np.random.default_rng(4)
    result = {}
    for kind, halves in HALVES.items():
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (512 // elements, size), dtype=np.uint8)
        for offset in halves:
            scales = random.normal(0, 0.05, len(blocks)).astype(np.float16)
            blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
        if kind == types.IQ1_M:  # a half in four top nibbles
            for block, scale in zip(blocks, random.normal(0, 0.05, len(blocks)).astype(np.float16).view(np.uint16)):
                block[49::2] = block[49::2] & 15 | [int(scale) >> 4 * w << 4 & 255 for w in range(4)]
        entry = {"bytes": text(blocks), "values": text(quants.dequantize(blocks, kind).astype("<f4"))}
        if kind in PACKED_TOO:
            values = random.normal(0, 0.05, 512).astype("<f4")
            values[64:96] = 0
            entry["unpacked"] = text(values)
            entry["packed"] = text(quants.quantize(values, kind))
        result[kind.name.lower()] = entry
    Path(__file__).with_name("quant-blocks.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
