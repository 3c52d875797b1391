"""Writes the code books of the IQ number formats of GGUF files: src/quant/formats/grids.ts and native/common/grids.h.

Run: python scripts/make_grids.py   (needs numpy and gguf)

The entries are facts of the formats, fixed by ggml (ggml-common.h) and taken here from the Python package `gguf`. An entry is one 16-bit word: eight
indices of 2 bits, or four of 3 bits, of a level, first element lowest.
"""

import base64
from pathlib import Path

import numpy as np
from gguf import quants

GRIDS = {"iq1": quants.IQ1_S, "iq2_xxs": quants.IQ2_XXS, "iq2_xs": quants.IQ2_XS, "iq2_s": quants.IQ2_S, "iq3_xxs": quants.IQ3_XXS, "iq3_s": quants.IQ3_S}
ROOT = Path(__file__).resolve().parent.parent


def words(kind):
    kind.init_grid()
    levels = kind.grid.reshape(kind.grid_shape)
    order = {value: i for i, value in enumerate(kind.grid_map)}
    bits = 2 if len(kind.grid_map) == 3 else 3
    return [sum(order[int(x)] << (bits * i) for i, x in enumerate(row)) for row in levels]


def main():
    signs = np.frombuffer(quants.IQ2_XXS.ksigns, dtype=np.uint8)
    assert all(int(s) == i | (bin(i).count("1") % 2) << 7 for i, s in enumerate(signs))
    ts = ["/** Code books of the IQ formats, written by scripts/make_grids.py: 16-bit words in base64. */", "export const packedGrids = {"]
    cc = ["// Code books of the IQ formats, written by scripts/make_grids.py; as src/quant/formats/grids.ts.", "#pragma once", "", "#include <cstdint>", ""]
    cc.append("namespace millrace {")
    for name, kind in GRIDS.items():
        entries = words(kind)
        text = base64.b64encode(np.array(entries, dtype="<u2").tobytes()).decode()
        rows = [f"    '{text[i : i + 140]}'" for i in range(0, len(text), 140)]
        ts.append(f"  {name}:\n" + " +\n".join(rows) + ",")
        cc.append(f"// clang-format off\nconstexpr uint16_t kGrid_{name}[{len(entries)}] = {{")
        for i in range(0, len(entries), 24):
            cc.append("  " + ",".join(f"{e:d}" for e in entries[i : i + 24]) + ",")
        cc.append("};\n// clang-format on")
    ts.append("} as const;\n")
    cc.append("}  // namespace millrace\n")
    (ROOT / "src/quant/formats/grids.ts").write_text("\n".join(ts))
    (ROOT / "native/common/grids.h").write_text("\n".join(cc))


if __name__ == "__main__":
    main()
