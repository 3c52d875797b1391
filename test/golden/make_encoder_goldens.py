"""Makes the golden data of encoders: tiny random checkpoints and the hidden states that Hugging Face transformers computes with them.

Run: python test/golden/make_encoder_goldens.py [name ...]     (needs torch, transformers, safetensors; made with the versions in each hidden.json)

Each case becomes a folder: config.json, model.safetensors, hidden.json with two texts as ids, the token types of each, and the last hidden states after
some of their tokens, computed in float32 with eager attention, each text alone.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, NomicBertConfig, NomicBertModel, RobertaConfig, RobertaForMaskedLM, XLMRobertaConfig, XLMRobertaModel

HERE = pathlib.Path(__file__).parent
LENGTHS = (37, 60)  # beyond both sides of a window of 16

small = dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4)

# name -> (class, configuration, stored dtype)
CASES = {
    "bert": (BertModel, BertConfig(**small, max_position_embeddings=64, type_vocab_size=2), torch.float32),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig(**small, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5), torch.float32),
    "roberta": (RobertaForMaskedLM, RobertaConfig(**small, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5), torch.bfloat16),
    "modernbert": (ModernBertModel, ModernBertConfig(**small, max_position_embeddings=128, local_attention=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        cls_token_id=1, sep_token_id=2), torch.float32),
    "nomic-bert": (NomicBertModel, NomicBertConfig(**small, max_position_embeddings=128, type_vocab_size=2), torch.float32),
}


def randomise(model, seed):
    """Matrices keep unit variance, q and k a little more so that attention is uneven, norms about 1, biases about 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.data = (1.0 if name.endswith("weight") else 0.0) + 0.2 * noise
        elif "embeddings" in name:
            parameter.data = noise
        else:
            sharper = 1.5 if "query" in name or "key" in name or "Wqkv" in name or "q_proj" in name or "k_proj" in name else 1.0
            parameter.data = noise * sharper / parameter.shape[1] ** 0.5


def make(name):
    cls, config, dtype = CASES[name]
    config.dtype = torch.float32
    config._attn_implementation = "eager"
    model = cls(config).eval().float()
    randomise(model, 1)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    generator = torch.Generator().manual_seed(2)
    texts = []
    for length in LENGTHS:
        ids = torch.randint(3, config.vocab_size, (length,), generator=generator)
        types = (torch.arange(length) > length // 2).long() if getattr(config, "type_vocab_size", 1) > 1 else torch.zeros(length, dtype=torch.long)
        inputs = dict(input_ids=ids[None]) if "modernbert" in name else dict(input_ids=ids[None], token_type_ids=types[None])
        with torch.no_grad():
            hidden = (model(**inputs) if not name == "roberta" else model.roberta(**inputs)).last_hidden_state[0]
        positions = [0, 1, 8, 17, length // 2 + 1, length - 1]
        texts.append(dict(ids=ids.tolist(), types=types.tolist(), hidden=[dict(position=p, values=[round(x, 5) for x in hidden[p].tolist()]) for p in positions]))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__}"
    (folder / "hidden.json").write_text(json.dumps(dict(madeWith=made_with, texts=texts), separators=(",", ":")) + "\n")
    print(name, "hidden within", max(abs(x) for text in texts for h in text["hidden"] for x in h["values"]))


for chosen in sys.argv[1:] or CASES:
    make(chosen)
