"""Trains the pocket model: tokenizer, then a small Llama, from the output of generate.py. Seeded; resumes from its last checkpoint.

    python pocket/train.py --data build/pocket/train.jsonl --work build/pocket --out pocket/model --minutes 40
"""
import argparse
import json
import os
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTEXT = 2048


def render(messages):
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def train_tokenizer(texts, vocab_size, path):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    t.save(str(path))
    return t


def save(model, tokenizer_path, out, dtype=torch.bfloat16):
    out.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(out, safe_serialization=True, max_shard_size="15MB")
    model.to(torch.float32)
    (out / "tokenizer.json").write_text(tokenizer_path.read_text())
    config = {
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "add_bos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (out / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], "temperature": 0.7, "top_p": 0.9, "do_sample": True}, indent=1))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=40)
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--length", type=int, default=320)
    p.add_argument("--batch", type=int, default=24)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--hidden", type=int, default=128)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--rate", type=float, default=3e-3)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    a.work.mkdir(parents=True, exist_ok=True)
    texts = [render(json.loads(line)) for line in open(a.data)]
    held_out, texts = texts[:300], texts[300:]
    tokenizer_path = a.work / "tokenizer.json"
    if not tokenizer_path.exists():
        train_tokenizer(texts, a.vocab, tokenizer_path)
    t = Tokenizer.from_file(str(tokenizer_path))
    ids = torch.tensor([i for e in t.encode_batch(texts) for i in e.ids], dtype=torch.long)
    test = torch.tensor([i for e in t.encode_batch(held_out) for i in e.ids], dtype=torch.long)
    config = LlamaConfig(
        vocab_size=t.get_vocab_size(), hidden_size=a.hidden, intermediate_size=3 * a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.hidden // 32,
        num_key_value_heads=max(1, a.hidden // 64), head_dim=32, max_position_embeddings=CONTEXT, tie_word_embeddings=True, rope_theta=10000.0, rms_norm_eps=1e-5,
        bos_token_id=None, eos_token_id=2, pad_token_id=0, initializer_range=0.04,
    )
    model = LlamaForCausalLM(config)
    print("parameters", sum(p.numel() for p in model.parameters()), "training tokens", len(ids), flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.rate, betas=(0.9, 0.95), weight_decay=0.05)
    checkpoint, step, spent = a.work / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    started, saved, g = time.time() - spent, time.time(), torch.Generator().manual_seed(a.seed)

    def keep():
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": time.time() - started}, temporary)
        os.replace(temporary, checkpoint)

    while True:
        # the rate follows whichever runs out first, steps or minutes, so that a shared machine still ends annealed
        progress = max(step / a.steps, (time.time() - started) / (60 * a.minutes))
        if progress >= 1:
            break
        warm = min(1.0, (step + 1) / 60)
        for group in optimizer.param_groups:
            group["lr"] = a.rate * warm * (1 - progress) ** 1.0 + 1e-5
        at = torch.randint(0, len(ids) - a.length - 1, (a.batch,), generator=g)
        batch = torch.stack([ids[i : i + a.length + 1] for i in at])
        logits = model(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            print(f"step {step} loss {loss.item():.3f} minutes {(time.time() - started) / 60:.1f}", flush=True)
        if time.time() - saved > 300:
            keep()
            saved = time.time()
    keep()
    model.eval()
    with torch.no_grad():
        rows = test[: len(test) // 512 * 512].reshape(-1, 512)
        total = sum(model(r[None], labels=r[None]).loss.item() for r in rows) / len(rows)
    print("held-out loss per token", round(total, 4), flush=True)
    save(model, tokenizer_path, a.out)


if __name__ == "__main__":
    main()
