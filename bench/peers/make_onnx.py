"""Writes ONNX models with random weights in the shape of a Qwen2 or Llama config.json, as ONNX Runtime runs decoders best on CPUs.

python make_onnx.py ../shapes/qwen2.5-0.5b/config.json OUT_FOLDER [--formats q8,q4]

The contrib operators that ONNX Runtime's own model builder writes: MatMulNBits in blocks of 32 with accuracy_level 4 (activations in int8 too),
GroupQueryAttention with its rotary embedding over a packed q, k, v, SkipSimplifiedLayerNormalization. q4 has its output matrix in 8 bits, as the GGUF
file has. Logits are of the last position alone. The embedding is f16. Speed does not depend on values: matrices are cut from one random pool.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

BLOCK = 32
MICROSOFT = "com.microsoft"


class Graph:
    def __init__(self):
        self.nodes, self.weights = [], []
        random = np.random.default_rng(1)
        self.bytes = random.integers(0, 256, 2**24, dtype=np.uint8)
        self.floats = (random.random(2**22, dtype=np.float32) + 0.5).astype(np.float32)

    def constant(self, name, array):
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    def cut(self, pool, shape):
        return np.resize(pool, int(np.prod(shape))).reshape(shape)

    def node(self, kind, inputs, outputs, domain="", **attributes):
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0] + "_node", domain=domain, **attributes))
        return outputs[0]

    def linear(self, name, x, inputs, outputs, bits, bias=False):
        packed = self.constant(f"{name}.quant", self.cut(self.bytes, (outputs, inputs // BLOCK, BLOCK * bits // 8)))
        spread = 2.0 ** (bits - 1) * 4 * np.sqrt(inputs)
        scales = self.constant(f"{name}.scales", (self.cut(self.floats, (outputs, inputs // BLOCK)) / spread).astype(np.float32))
        out = self.node("MatMulNBits", [x, packed, scales], [name], MICROSOFT, K=inputs, N=outputs, bits=bits, block_size=BLOCK, accuracy_level=4)
        if not bias:
            return out
        return self.node("Add", [out, self.constant(f"{name}.bias", np.zeros(outputs, np.float32))], [f"{name}.sum"])


def rotary(config, head):
    positions = np.arange(min(config["max_position_embeddings"], 16384))
    angles = np.outer(positions, config["rope_theta"] ** (-np.arange(0, head, 2) / head))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def build(config, bits):
    g = Graph()
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or hidden // heads
    epsilon = config["rms_norm_eps"]
    cos, sin = (g.constant(name, table) for name, table in zip(("cos", "sin"), rotary(config, head)))
    table = g.constant("embedding", (g.cut(g.floats, (config["vocab_size"], hidden)) - 1).astype(np.float16))
    x = g.node("Cast", [g.node("Gather", [table, "input_ids"], ["embedded"])], ["x"], to=TensorProto.FLOAT)
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])]
    inputs += [helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]), helper.make_tensor_value_info("total_length", TensorProto.INT32, [])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, config["vocab_size"]])]
    ones = g.constant("ones", np.ones(hidden, np.float32))
    normed = g.node("SimplifiedLayerNormalization", [x, ones], ["norm0"], epsilon=epsilon, axis=-1)
    for i in range(layers):
        qkv = g.linear(f"qkv{i}", normed, hidden, (heads + 2 * kv) * head, bits, bias=config["model_type"] == "qwen2")
        past = [f"past_{part}{i}" for part in ("key", "value")]
        present = [f"present_{part}{i}" for part in ("key", "value")]
        for name in past:
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", kv, "past", head]))
        for name in present:
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", kv, "present", head]))
        attended = g.node(
            "GroupQueryAttention", [qkv, "", "", *past, "seqlens_k", "total_length", cos, sin], [f"attended{i}", *present], MICROSOFT,
            num_heads=heads, kv_num_heads=kv, do_rotary=1, rotary_interleaved=0, scale=head**-0.5,
        )
        projected = g.linear(f"projected{i}", attended, heads * head, hidden, bits)
        normed = g.node("SkipSimplifiedLayerNormalization", [x, projected, ones], [f"ffn_norm{i}", "", "", f"ffn_in{i}"], MICROSOFT, epsilon=epsilon)
        x = f"ffn_in{i}"
        gate, up = g.linear(f"gate{i}", normed, hidden, inner, bits), g.linear(f"up{i}", normed, hidden, inner, bits)
        gated = g.node("Mul", [g.node("QuickGelu", [gate], [f"silu{i}"], MICROSOFT, alpha=1.0), up], [f"gated{i}"])
        down = g.linear(f"down{i}", gated, inner, hidden, bits)
        normed = g.node("SkipSimplifiedLayerNormalization", [x, down, ones], [f"norm{i + 1}", "", "", f"out{i}"], MICROSOFT, epsilon=epsilon)
        x = f"out{i}"
    last = g.node("Gather", [normed, g.constant("last", np.array([-1], np.int64))], ["last_hidden"], axis=1)
    g.linear("logits", last, hidden, config["vocab_size"], 8)
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, g.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)], ir_version=10)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--formats", default="q8,q4")
    args = parser.parse_args()
    config = json.loads(args.config.read_text())
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.formats.split(","):
        file = args.folder / f"model.{name}.onnx"
        (args.folder / f"{file.name}.data").unlink(missing_ok=True)
        onnx.save_model(build(config, int(name[1:])), file, save_as_external_data=True, location=f"{file.name}.data")
        print(f"{file}: {(args.folder / f'{file.name}.data').stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
