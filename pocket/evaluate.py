"""Runs the questions of evaluate.ts through transformers, greedy, and compares token by token; prints the perplexity on held-out conversations.

    python pocket/evaluate.py --model pocket/model --work build/pocket
"""
import argparse
import json
import math
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

import train


TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a place", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "day": {"type": "string"}}, "required": ["city"]}}}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Ber\u00fcko", "day": "a < b"}}}
QUESTIONS = ["Hi!", "Kado is 88 years old. Nisa lives in Zetebu. Where does Nisa live?", "Extract name, age as JSON: My name is Rimuko. I am 37 years old.", "What is the capital of Zovira?"]
CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "Hi!"}]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}], "enable_thinking": True},
    {"messages": [{"role": "user", "content": "Weather?"}], "tools": [TOOL, {"type": "function", "function": {"name": "now"}}]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "reasoning_content": "I ask.", "tool_calls": [CALL, CALL]},
                  {"role": "tool", "content": "{}"}, {"role": "tool", "content": "{\"ok\": true}"}, {"role": "assistant", "content": "It is fine."}, {"role": "user", "content": "Thanks"}], "tools": [TOOL]},
]


def write_expectations(path, model, tokenizer):
    prompts = [{**c, "rendered": tokenizer.apply_chat_template(c["messages"], tools=c.get("tools"), enable_thinking=c.get("enable_thinking", False), add_generation_prompt=True, tokenize=False)} for c in CONVERSATIONS]
    questions = [{"messages": [{"role": "user", "content": q}]} for q in QUESTIONS] + [{"messages": [{"role": "user", "content": "What is the weather in Bekora?"}], "tools": [TOOL]}]
    for q in questions:
        ids = tokenizer.apply_chat_template(q["messages"], tools=q.get("tools"), add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=48, do_sample=False, temperature=None, top_p=None, eos_token_id=[2, 0], pad_token_id=0)
        q["promptTokenIds"], q["tokenIds"] = ids, [i for i in out[0][len(ids):].tolist() if i not in (0, 2)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prompts": prompts, "answers": questions}, indent=1) + "\n")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model", type=Path, required=True)
    a.add_argument("--work", type=Path, required=True)
    a.add_argument("--limit", type=int, default=0, help="compare only every n-th answer, 0: all")
    a.add_argument("--expectations", type=Path, help="write what the test of the shipped model expects")
    args = a.parse_args()
    torch.set_num_threads(1)
    # weights are bf16; Millrace computes in f32, so does this
    model = LlamaForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    said = [json.loads(line) for line in open(args.work / "said.jsonl")]
    if args.limit:
        said = said[:: args.limit]
    if args.expectations:
        write_expectations(args.expectations, model, tokenizer)
    equal = 0
    for one in said:
        item = one["item"]
        ids = tokenizer.apply_chat_template(item["messages"], tools=item.get("tools"), add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=240 if item["kind"] == "story" else 96, do_sample=False, temperature=None, top_p=None, eos_token_id=[2, 0], pad_token_id=0)
        theirs, ours = out[0][len(ids) :].tolist(), one["tokenIds"]
        if [i for i in theirs if i not in (0, 2)] == [i for i in ours if i not in (0, 2)]:
            equal += 1
        else:
            print("differs:", item["messages"][-1]["content"], "|", tokenizer.decode(theirs), "|", one["text"])
    print(f"equal to transformers: {equal} of {len(said)}")
    compiled = train.template()
    texts = [train.render(compiled, json.loads(line)) for line in list(open(args.work / "train.jsonl"))[:300]]
    rows = train.encode(tokenizer._tokenizer, texts, train.CONTEXT)
    with torch.no_grad():
        parts = [train.loss_of(model, *train.padded([r]), reduction="sum") for r in rows]
    loss = sum(x[0].item() for x in parts) / sum(x[1] for x in parts)
    print(f"held-out conversations: loss {loss:.4f}, perplexity {math.exp(loss):.3f} per token the assistant says")


if __name__ == "__main__":
    main()
