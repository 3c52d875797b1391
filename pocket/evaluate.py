"""Runs the questions of evaluate.ts through transformers, greedy, and compares token by token; prints the perplexity on held-out conversations,
and with --draft that of the sibling and how often its most likely token is the one that the model said.

    python pocket/evaluate.py --model pocket/model --draft pocket/draft --work build/pocket
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


@torch.no_grad()
def greedy(model, ids, count):
    """What the model says after these tokens, without the marks of the end."""
    out = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, temperature=None, top_p=None, eos_token_id=[2, 0], pad_token_id=0)
    return [i for i in out[0][len(ids) :].tolist() if i not in (0, 2)]


def write_expectations(path, model, draft, tokenizer):
    prompts = [{**c, "rendered": tokenizer.apply_chat_template(c["messages"], tools=c.get("tools"), enable_thinking=c.get("enable_thinking", False), add_generation_prompt=True, tokenize=False)} for c in CONVERSATIONS]
    questions = [{"messages": [{"role": "user", "content": q}]} for q in QUESTIONS] + [{"messages": [{"role": "user", "content": "What is the weather in Bekora?"}], "tools": [TOOL]}]
    for q in questions:
        ids = tokenizer.apply_chat_template(q["messages"], tools=q.get("tools"), add_generation_prompt=True, return_dict=False)
        q["promptTokenIds"], q["tokenIds"] = ids, greedy(model, ids, 48)
        if draft is not None:
            q["draftTokenIds"] = greedy(draft, ids, 48)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prompts": prompts, "answers": questions}, indent=1) + "\n")


def rows_of(tokenizer, path, count=300):
    """The first `count` conversations, which train.py leaves out: (ids, what the assistant says of them)."""
    compiled = train.template()
    with open(path) as f:
        texts = [train.render(compiled, json.loads(line)) for line, _ in zip(f, range(count))]
    return train.encode(tokenizer._tokenizer, texts, train.CONTEXT)


@torch.no_grad()
def perplexity(model, rows):
    total = count = 0
    for ids, targets in rows:
        logits = model(ids[None]).logits[0, :-1].float()
        wanted = targets[1:]
        mask = wanted != -100
        total += torch.nn.functional.cross_entropy(logits[mask], wanted[mask], reduction="sum").item()
        count += int(mask.sum())
    return math.exp(total / count)


@torch.no_grad()
def agreement(draft, tokenizer, said):
    """Share of the tokens said, greedy, that are also the draft's most likely ones after the same tokens."""
    same = count = 0
    for one in said:
        prompt = tokenizer.apply_chat_template(one["item"]["messages"], tools=one["item"].get("tools"), add_generation_prompt=True, return_dict=False)
        answer = [i for i in one["tokenIds"] if i not in (0, 2)] + [2]
        guessed = draft(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].argmax(-1)
        same += int((guessed == torch.tensor(answer)).sum())
        count += len(answer)
    return same, count


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model", type=Path, required=True)
    a.add_argument("--work", type=Path, required=True)
    a.add_argument("--draft", type=Path, help="the sibling")
    a.add_argument("--limit", type=int, default=0, help="compare only every n-th answer, 0: all")
    a.add_argument("--expectations", type=Path, help="write what the test of the shipped model expects")
    args = a.parse_args()
    torch.set_num_threads(1)
    # weights are bf16; Millrace computes in f32, so does this
    model = LlamaForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    draft = LlamaForCausalLM.from_pretrained(args.draft, dtype=torch.float32).eval() if args.draft else None
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    said = [json.loads(line) for line in open(args.work / "said.jsonl")]
    if args.limit:
        said = said[:: args.limit]
    if args.expectations:
        write_expectations(args.expectations, model, draft, tokenizer)
    equal = 0
    for one in said:
        item = one["item"]
        ids = tokenizer.apply_chat_template(item["messages"], tools=item.get("tools"), add_generation_prompt=True, return_dict=False)
        theirs = greedy(model, ids, 400 if item["kind"] == "story" else 160)
        if theirs == [i for i in one["tokenIds"] if i not in (0, 2)]:
            equal += 1
        else:
            print("differs:", item["messages"][-1]["content"], "|", tokenizer.decode(theirs), "|", one["text"])
    print(f"equal to transformers: {equal} of {len(said)}")
    rows = rows_of(tokenizer, args.work / "train.jsonl")
    print(f"perplexity on {len(rows)} held-out conversations, per token the assistant says: {perplexity(model, rows):.3f}")
    if draft is not None:
        same, count = agreement(draft, tokenizer, said)
        print(f"the sibling: perplexity {perplexity(draft, rows):.3f}, agrees with {same} of {count} tokens ({100 * same / count:.1f} %)")


if __name__ == "__main__":
    main()
