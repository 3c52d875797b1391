"""Writes the pocket model's text: conversations, one JSON object a line, and the evaluation sets (a) and (b).

Everything is drawn from one seed. Entities are mostly random syllables, so that the model learns to copy from its prompt instead of
remembering; one name in ten (by its checksum) is never trained on, and set (a) uses only those. Set (b) uses them in phrasings that are
never trained on (`phrases.py`). Corpora are optional: a folder that is absent is left out, and the counts are printed.

    python pocket/generate.py --corpora ../shared/data --out build/pocket --seed 1
"""
import argparse
import io
import json
import random
import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import phrases as p

SYLLABLES = "ba be bi bo bu da de di do du fa fe fi fo ga go ha he hi ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we za ze zo".split()
EVALUATION_KINDS = ["small talk", "out of scope", "facts", "json", "tool call", "tool result", "no tool"]


@dataclass
class Source:
    """Where one conversation draws from."""

    r: random.Random
    #: names that are never trained on
    unseen: bool = False
    #: phrasings that are never trained on
    held: bool = False

    def pick(self, lists):
        return self.r.choice(lists[1] if self.held else lists[0])

    def name(self, known):
        if not self.unseen and self.r.random() < 0.15:
            return self.r.choice(known)
        while True:
            text = "".join(self.r.choice(SYLLABLES) for _ in range(self.r.choice([2, 2, 3]))).capitalize()
            if (zlib.crc32(text.encode()) % 10 == 0) == self.unseen:
                return text

    def person(self):
        return self.name(p.PEOPLE)

    def city(self):
        return self.name(p.CITIES)

    def style(self, text, question=None):
        """As people type: capitals and marks at the end are often missing."""
        r = self.r
        text = text if r.random() < 0.4 else text[0].upper() + text[1:]
        asks = re.match(r"(how|what|who|are|do|does|can|why|where|which|is|when|in which)\b", text.lower()) if question is None else question
        return text + ("?" if asks else r.choice(["!", ".", "."])) if r.random() < 0.6 else text


def user(text):
    return {"role": "user", "content": text}


def assistant(text, thought=None):
    message = {"role": "assistant", "content": text}
    return message if thought is None else {**message, "reasoning_content": thought}


def row(kind, *messages, tools=None):
    return {"kind": kind, "messages": list(messages), **({"tools": tools} if tools else {})}


def maybe_greet(s):
    return [user(s.style(s.pick(p.GREETINGS), False)), assistant(s.r.choice(p.GREETED))] if s.r.random() < 0.15 else []


def small_talk(s):
    turns = []
    if s.r.random() < 0.4:
        turns += [user(s.style(s.pick(p.GREETINGS), False)), assistant(s.r.choice(p.GREETED))]
    for asked, answered in s.r.sample(p.SMALL, s.r.choice([1, 1, 2, 3])):
        turns += [user(s.style(s.pick(asked))), assistant(s.r.choice(answered))]
    return row("small talk", *turns)


def greeting(s):
    return row("small talk", user(s.style(s.pick(p.GREETINGS), False)), assistant(s.r.choice(p.GREETED)))


def out_of_scope(s):
    r = s.r
    question = s.pick(p.OUT).format(
        x=s.city(), z=s.city(), p=s.person(), y=r.randint(1800, 2025), n=r.randint(2, 99), m=r.randint(2, 99), t=r.choice(p.TOPICS), u=r.choice(p.TOPICS), w=r.choice(p.THINGS + p.ANIMALS + p.FOODS)
    )
    return row("out of scope", *maybe_greet(s), user(s.style(question)), assistant(p.BIGGER))


def value(s, kind):
    r = s.r
    if kind in ("city", "person"):
        return s.name(p.CITIES if kind == "city" else p.PEOPLE)
    if kind == "thing":
        return f"{r.choice(p.COLOURS)} {r.choice(p.THINGS)}"
    return {"food": r.choice(p.FOODS), "age": str(r.randint(3, 99)), "code": str(r.randint(100, 9999)), "job": r.choice(p.JOBS)}[kind]


def facts(s):
    r = s.r
    count = r.choice([1, 2, 2, 3, 3])
    who = [s.person() for _ in range(count)]
    told = [(a, *kind[:3], value(s, kind[3])) for a, kind in zip(who, r.sample(p.FACTS, count))]
    sentences = [r.choice(t[1]).format(a=t[0], b=t[4]) for t in told]
    chosen = r.randrange(count)
    a, _, asked, answer, b = told[chosen]
    text, answer = " ".join(sentences), answer.format(a=a, b=b)
    thought = f"I look for {a}. It says: {sentences[chosen]}" if r.random() < 0.12 else None
    question = s.pick(asked).format(a=a)
    turns = [user(r.choice(["{t} {q}", "{t}\n{q}", "{q} {t}"] if not s.held else ["{t} {q}"]).format(t=text, q=question)), assistant(answer, thought)]
    if not s.unseen and r.random() < 0.6:  # more questions about the same text: more to learn from each token
        for a, _, asked, answer, b in told[:chosen] + told[chosen + 1 :]:
            turns += [user(s.pick(asked).format(a=a)), assistant(answer.format(a=a, b=b))]
    return row("facts", *turns)


def repeat(s):
    """Nothing but copying, of everything that has to be copied exactly."""
    r = s.r
    parts = [lambda: s.name(p.PEOPLE), lambda: s.name(p.CITIES), lambda: str(r.randint(0, 9999)), lambda: str(r.randint(2, 99)), lambda: f"{r.randint(6, 22)}:{r.choice(['00', '15', '30', '45'])}",
             lambda: r.choice(p.COLOURS), lambda: r.choice(p.THINGS), lambda: r.choice(p.FOODS), lambda: r.choice(p.JOBS), lambda: r.choice(p.DAYS), lambda: r.choice(p.EVENTS), lambda: r.choice(p.SKY),
             lambda: r.choice(p.ANIMALS), lambda: f"{r.randint(2, 99)} {r.choice('+-*/')} {r.randint(2, 99)}"]
    text = r.choice([" ", " ", ", "]).join(r.choice(parts)() for _ in range(r.randint(2, 8)))
    return row("repeat", user(r.choice(["Repeat: {x}", "Say {x}", "Repeat after me: {x}", "say: {x}", "Please repeat {x}"]).format(x=text)), assistant(text))


def extraction(s):
    r = s.r
    values = {"name": s.person(), "age": r.randint(3, 99), "city": s.city(), "likes": r.choice(p.FOODS), "job": r.choice(p.JOBS), "color": r.choice(p.COLOURS)}
    keys = r.sample(sorted(values), r.choice([1, 2, 2, 3, 3, 4]))
    sentence = ". ".join(s.pick(p.SENTENCES[k]).format(v=values[k]) for k in keys) + "."
    asked = keys if r.random() < 0.8 else r.sample(keys, max(1, len(keys) - 1))
    wanted = {k: values[k] for k in asked}
    names = ", ".join(asked) if r.random() < 0.7 else " and ".join(asked)
    return row("json", user(s.pick(p.EXTRACT).format(k=names, s=sentence)), assistant(json.dumps(wanted)))


def schema(kind, description, **parameters):
    properties = {name: {"type": type_} for name, type_ in parameters.items()}
    return {"type": "function", "function": {"name": kind, "description": description, "parameters": {"type": "object", "properties": properties, "required": list(parameters)}}}


def weather(s):
    c, f, key = s.city(), s.r.choice(["get_weather", "get_weather", "weather", "current_weather"]), s.r.choice(["city", "city", "location"])
    sky, t = s.r.choice(p.SKY), s.r.randint(-9, 39)
    result = s.r.choice([{"temperature": t, "condition": sky}, {key: c, "temperature": t, "condition": sky}])
    return s.pick(p.WEATHER).format(c=c), schema(f, "The weather of a place", **{key: "string"}), {key: c}, result, f"It is {sky} in {c} with {t} degrees."


def timer(s):
    n, f, key = s.r.randint(1, 90), s.r.choice(["set_timer", "set_timer", "timer", "start_timer"]), s.r.choice(["minutes", "minutes", "duration"])
    return s.pick(p.TIMER).format(n=n), schema(f, "Starts a timer", **{key: "integer"}), {key: n}, s.r.choice([{"status": "ok"}, {"ok": True}]), f"The timer is set for {n} minutes."


def calculator(s):
    r = s.r
    operator, words = r.choice(p.OPERATORS)
    n, m = r.randint(2, 999 if r.random() < 0.4 else 99), r.randint(2, 99)
    if operator == "/":
        n = m * r.randint(2, 30)
    outcome = {"+": n + m, "-": n - m, "*": n * m, "/": n // m}[operator]
    f = r.choice(["calculator", "calculator", "calculate"])
    return s.pick(p.CALCULATE).format(e=f"{n} {r.choice(words)} {m}"), schema(f, "Calculates", expression="string"), {"expression": f"{n} {operator} {m}"}, {"result": outcome}, f"The result is {outcome}."


def calendar(s):
    r = s.r
    event, d, h = r.choice(p.EVENTS), r.choice(p.DAYS), f"{r.randint(6, 22)}:{r.choice(['00', '15', '30', '45'])}"
    title = event if r.random() < 0.4 else f"{event} with {s.person()}"
    f = r.choice(["add_event", "add_event", "create_event"])
    said = s.pick(p.CALENDAR).format(t=title, d=d, h=h)
    return said, schema(f, "Adds to the calendar", title="string", day="string", time="string"), {"title": title, "day": d, "time": h}, s.r.choice([{"status": "ok"}, {"ok": True}]), f"I have added {title} on {d} at {h}."


TOOLS = [weather, timer, calculator, calendar]


def tool_use(s, kind=None):
    """A call, and often its result and the answer to it. Kinds: `tool call` (ends with the call), `tool result` (ends with the answer)."""
    r = s.r
    uses = [make(s) for make in r.sample(TOOLS, r.choice([1, 2, 2, 3, 4]))]
    said, tool, arguments, result, answer = uses[0]
    tools = [use[1] for use in uses]
    r.shuffle(tools)
    call = {"type": "function", "function": {"name": tool["function"]["name"], "arguments": arguments}}
    thought = f"I need {call['function']['name']} for this." if r.random() < 0.1 else None
    turns = [*maybe_greet(s), user(s.style(said, None)), {**assistant("", thought), "tool_calls": [call]}]
    kind = kind or r.choice(["tool call", "tool result"])
    if kind == "tool call":
        return row(kind, *turns, tools=tools)
    back = {"role": "tool", "content": json.dumps(result)}
    turns += [back, assistant(answer)]
    if not s.unseen and len(uses) > 1 and r.random() < 0.5:
        said, tool, arguments, result, answer = uses[1]
        call = {"type": "function", "function": {"name": tool["function"]["name"], "arguments": arguments}}
        turns += [user(s.style(said, None)), {**assistant(""), "tool_calls": [call]}, {"role": "tool", "content": json.dumps(result)}, assistant(answer)]
    return row(kind, *turns, tools=tools)


def no_tool(s):
    """Tools are there, but what is said needs none of them, or another."""
    tools = [t(s)[1] for t in s.r.sample(TOOLS, s.r.choice([1, 2, 3]))]
    inner = s.r.choice([small_talk, small_talk, greeting, facts, out_of_scope])(s)
    if re.search(r"weather|times|plus|how much", json.dumps(inner["messages"])):
        inner = greeting(s)
    return row("no tool", *inner["messages"], tools=tools)


def read(path):
    if not path.exists():
        return []
    data = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True).stdout
    return io.StringIO(data.decode("utf-8")).readlines()


def stories(folder, max_words):
    text = read(folder / "corpus-tinystories-sample/stories.jsonl.zst")
    for line in text[1:-1]:
        story = json.loads(line)["text"].strip().replace("“", '"').replace("”", '"').replace("’", "'").replace(" \n", "\n")
        if story.isascii() and 30 <= len(story.split()) <= max_words and story[0].isupper():
            yield story


def story_turns(s, story):
    words = re.findall(r"[a-z]+", story.lower())
    topics = [w for w in p.ANIMALS + p.THINGS if w in words]
    topic = s.r.choice(topics) if topics and s.r.random() < 0.7 else None
    return row("stories", user(s.style(s.r.choice(p.STORY) + (f" about a {topic}" if topic else ""))), assistant(story))


def persona(folder, allowed):
    """Beginnings of dialogues, as far as every word is one of the children's stories: no slurs, no names, no figures."""
    for line in read(folder / "corpus-synthetic-persona-chat/dialogues.jsonl.zst"):
        kept = []
        for message in json.loads(line)["messages"][:6]:
            text = message["content"]
            if not text.isascii() or re.search(r"[0-9@/]", text) or not set(re.findall(r"[a-z']+", text.lower())) <= allowed:
                break
            kept.append({"role": message["role"], "content": text})
        kept = kept[: len(kept) // 2 * 2]
        if kept and kept[0]["role"] == "user":
            yield row("persona chat", *kept)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as f:
        for item in rows:
            f.write(json.dumps(item) + "\n")


def evaluation(seed, held, count):
    """`count` conversations of each kind, none twice; the last message of each is what is expected."""
    s = Source(random.Random(seed), unseen=True, held=held)
    makers = {"small talk": small_talk, "out of scope": out_of_scope, "facts": facts, "json": extraction, "no tool": no_tool,
              "tool call": lambda s: tool_use(s, "tool call"), "tool result": lambda s: tool_use(s, "tool result")}
    for kind in EVALUATION_KINDS:
        seen = {}
        while len(seen) < count:
            item = makers[kind](s)
            if any("reasoning_content" in m for m in item["messages"]):
                continue
            seen[json.dumps(item["messages"][:-1])] = item
        yield from seen.values()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--corpora", type=Path, required=True)
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--scale", type=int, default=8000, help="conversations of each generated kind, about")
    a.add_argument("--max-story-words", type=int, default=150)
    args = a.parse_args()
    s = Source(random.Random(args.seed))
    n, rows = args.scale, []
    makers = [(small_talk, n // 4), (greeting, n // 16), (out_of_scope, n // 2), (facts, 2 * n), (repeat, n), (extraction, 2 * n), (tool_use, 5 * n // 2), (no_tool, n // 2)]
    for maker, count in makers:
        rows += [maker(s) for _ in range(count)]
    told = list(stories(args.corpora, args.max_story_words))
    rows += [story_turns(s, t) for t in told]
    counted = {}
    for t in told:
        for word in set(re.findall(r"[a-z']+", t.lower())):
            counted[word] = counted.get(word, 0) + 1
    rows += persona(args.corpora, {w for w, c in counted.items() if c >= 2})
    for item in rows:
        if s.r.random() < 0.15:
            item["messages"].insert(0, {"role": "system", "content": s.r.choice(p.SYSTEM)})
    s.r.shuffle(rows)
    write(args.out / "train.jsonl", rows)
    write(args.out / "eval-a.jsonl", evaluation(args.seed + 1000, False, 50))
    write(args.out / "eval-b.jsonl", evaluation(args.seed + 2000, True, 50))
    counts = {}
    for item in rows:
        counts[item["kind"]] = counts.get(item["kind"], 0) + 1
    print(counts)


if __name__ == "__main__":
    main()
