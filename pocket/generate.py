"""Writes the pocket model's text: conversations, one JSON object a line, and the evaluation sets (a) and (b).

Everything is drawn from one seed. Values are words of many kinds, names of many countries and random syllables, so that the model learns to
copy from its prompt instead of remembering; one value in ten (by its checksum) is never trained on, and sets (a) and (b) use only those.
Set (b) uses them in phrasings that are never trained on. The corpus of stories gives words and a few stories; without it there are fewer.

    python pocket/generate.py --corpora ../shared/data --out build/pocket --seed 1
"""
import argparse
import io
import json
import random
import re
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import facts
import phrases as p
import records
import stories
import tools
import words as w

EVALUATION_KINDS = ["small talk", "out of scope", "facts", "json", "tool call", "tool result", "no tool"]
POLITE = (["", "", "", "", "", "", "please ", "hey, ", "hi! ", "hello, ", "can you tell me: ", "quick question: ", "ok, ", "so, ", "hi pocket, ", "now "], [""])
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Source:
    """Where one conversation draws from."""

    r: random.Random
    #: values that are never trained on
    unseen: bool = False
    #: phrasings that are never trained on
    held: bool = False
    #: words of the corpus of stories
    vocabulary: list = field(default_factory=list)

    KINDS = frozenset("person first_name city company thing noun word likes animal color job hobby language place event day date time title phrase price age count small code year phone email symbol currency size spot made integer".split())

    def pick(self, lists):
        return self.r.choice(lists[1] if self.held else lists[0])

    def fits(self, text):
        return (zlib.crc32(text.lower().encode()) % 10 == 0) == self.unseen

    def drawn(self, draw):
        """A value of `draw` on the right side of what is trained on."""
        for _ in range(50):
            text = draw()
            if self.fits(text):
                return text
        while True:  # a short list may have nothing on this side
            text = self.made_up()
            if self.fits(text):
                return text.capitalize() if draw()[0].isupper() else text

    def spliced(self, known):
        """The beginning of one word and the end of another: pieces as in real words, in an order that nobody can know by heart."""
        a, b = self.r.choice(known), self.r.choice(known)
        return (a[: self.r.randint(1, max(1, len(a) - 1))] + b[self.r.randint(1, max(1, len(b) - 2)) :].lower()).replace(" ", "")[:12]

    def made_up(self):
        r = self.r
        shape = r.random()
        if shape < 0.4:
            return "".join(r.choice(w.SYLLABLES) for _ in range(r.choice([2, 2, 3])))
        if shape < 0.9:
            return "".join(r.choice(w.ONSETS) + r.choice(w.VOWELS) + r.choice(w.CODAS) for _ in range(r.choice([1, 1, 1, 2]))) + r.choice(w.ENDINGS)
        return r.choice(ALPHABET) + "".join(r.choice("aeiou" + ALPHABET) for _ in range(r.randint(2, 6)))

    def proper(self, known):
        r = self.r
        source = r.random()
        if source < 0.3:
            return r.choice(known)
        if source < 0.6:
            return self.spliced(known)
        if source < 0.95 or not self.vocabulary:
            return self.made_up().capitalize()
        return r.choice(self.vocabulary).capitalize()

    def first_name(self):
        return self.drawn(lambda: self.proper(w.PEOPLE))

    def person(self):
        if self.r.random() < 0.2:
            return self.first_name() + " " + self.drawn(lambda: self.proper(w.SURNAMES))
        return self.first_name()

    def city(self):
        return self.drawn(lambda: self.proper(w.CITIES))

    def word(self):
        """Any word in small letters."""
        r = self.r

        def draw():
            source = r.random()
            lists = [w.THINGS, w.FOODS, w.OBJECTS, w.ANIMALS, w.HOBBIES, w.JOBS, w.COLOURS]
            if source < 0.3:
                return r.choice(r.choice(lists))
            if source < 0.6:
                return self.spliced(self.vocabulary if self.vocabulary and r.random() < 0.5 else r.choice(lists))
            if source < 0.85 and self.vocabulary:
                return r.choice(self.vocabulary)
            return self.made_up()

        return self.drawn(draw)

    def noun(self):
        r = self.r
        return self.word() if r.random() < 0.25 else self.drawn(lambda: r.choice(r.choice([w.NOUNS, w.OBJECTS, w.THINGS, w.ANIMALS])))

    def mostly(self, known, share=0.5):
        return self.drawn(lambda: self.r.choice(known)) if self.r.random() < share else self.word()

    def value(self, kind):
        r = self.r
        if kind in ("person", "first_name", "city", "noun", "word"):
            return getattr(self, kind)()
        if kind in ("likes", "animal", "color", "job", "hobby"):
            return self.mostly({"likes": w.FOODS, "animal": w.ANIMALS, "color": w.COLOURS, "job": w.JOBS, "hobby": w.HOBBIES}[kind])
        if kind in ("language", "place"):
            return self.drawn(lambda: self.proper(w.LANGUAGES if kind == "language" else w.CITIES))
        if kind in ("age", "count", "small", "code", "year", "integer"):
            low, high = {"age": (2, 99), "count": (2, 400), "small": (2, 30), "code": (100, 99999), "year": (1700, 2030), "integer": (0, 2000)}[kind]
            return r.randint(low, r.choice([high, high, 9999 if kind == "code" else high]))
        return {
            "thing": lambda: f"{r.choice(w.COLOURS + w.ADJECTIVES)} {self.noun()}" if r.random() < 0.4 else self.noun(),
            "company": lambda: self.first_name() + (" " + r.choice(w.COMPANIES) if r.random() < 0.5 else ""),
            "event": lambda: self.mostly(w.EVENTS, 0.8) if r.random() < 0.7 else f"{self.word()} {self.word()}",
            "day": lambda: r.choice(w.DAYS),
            "date": lambda: r.choice([f"{r.choice(w.MONTHS)} {r.randint(1, 28)}", f"{r.randint(1, 28)} {r.choice(w.MONTHS)}", r.choice(w.DAYS), f"{r.randint(2019, 2031)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}"]),
            "time": lambda: f"{r.randint(6, 22)}:{r.choice(['00', '15', '30', '45', '10', '05', '50'])}" if r.random() < 0.8 else f"{r.randint(1, 12)} {r.choice(['am', 'pm'])}",
            "title": lambda: r.choice(["The ", "The ", ""]) + self.word().capitalize() + r.choice(["", " " + self.word().capitalize(), " of " + self.first_name()]),
            "phrase": lambda: r.choice([r.choice(p.PHRASES), self.word() + " " + self.noun(), f"{r.choice(tools.VERBS)} the {self.noun()}", self.noun()]),
            "price": lambda: r.randint(1, 999) if r.random() < 0.7 else round(r.randint(1, 99) + r.choice([0.5, 0.25, 0.75, 0.99, 0.95, 0.49]), 2),
            "phone": lambda: "-".join(str(r.randint(100, 999)) for _ in range(r.choice([2, 3]))) if r.random() < 0.6 else str(r.randint(10000, 9999999)),
            "email": lambda: f"{self.first_name().lower().replace(' ', '')}@{self.word()}.{r.choice(['com', 'org', 'net'])}",
            "symbol": lambda: "".join(r.choice(ALPHABET.upper()) for _ in range(r.randint(2, 4))),
            "currency": lambda: r.choice(["dollars", "euros", "yen", "pounds", "francs", "rupees", "pesos", "kronor"]),
            "size": lambda: r.choice(["S", "M", "L", "XL", r.randint(28, 50)]),
            "spot": lambda: self.mostly(facts.SPOTS, 0.8),
            "made": self.made_up,
        }[kind]()

    def style(self, text, question=None):
        """As people type: capitals and marks at the end are often missing."""
        r = self.r
        text = self.pick(POLITE) + text
        text = text if r.random() < 0.45 else text[0].upper() + text[1:]
        asks = re.match(r"(how|what|who|are|do|does|can|why|where|which|is|when|in which)\b", text.lower()) if question is None else question
        return text + ("?" if asks else r.choice(["!", ".", "."])) if r.random() < 0.6 else text

    def plain(self, text):
        """Only a capital and a mark, both often missing."""
        r = self.r
        text = text if r.random() < 0.45 else text[0].upper() + text[1:]
        return text + ("?" if re.match(r"(how|what|who|are|do|can|why|where|which|is|when)", text.lower()) else r.choice(["!", ".", ""])) if r.random() < 0.6 else text


def user(text):
    return {"role": "user", "content": text}


def assistant(text, thought=None):
    message = {"role": "assistant", "content": text}
    return message if thought is None else {**message, "reasoning_content": thought}


def row(kind, *messages, tools=None):
    return {"kind": kind, "messages": list(messages), **({"tools": tools} if tools else {})}


def maybe_greet(s):
    return [user(s.plain(s.pick(p.GREETINGS))), assistant(s.r.choice(p.GREETED))] if s.r.random() < 0.1 else []


def small_talk(s):
    turns = []
    if s.r.random() < 0.4:
        turns += [user(s.plain(s.pick(p.GREETINGS))), assistant(s.r.choice(p.GREETED))]
    for asked, answered in s.r.sample(p.SMALL, s.r.choice([1, 1, 2, 3])):
        turns += [user(s.plain(s.pick(asked))), assistant(s.r.choice(answered))]
    return row("small talk", *turns)


def greeting(s):
    return row("small talk", user(s.plain(s.pick(p.GREETINGS))), assistant(s.r.choice(p.GREETED)))


def out_question(s):
    r = s.r
    return s.pick(p.OUT).format(x=s.city(), z=s.city(), p=s.person(), y=r.randint(1800, 2025), n=r.randint(2, 99), m=r.randint(2, 99), t=r.choice(p.TOPICS) if r.random() < 0.75 else s.word(), u=r.choice(p.TOPICS), w=s.word(), c=r.choice(w.COLOURS), v=r.choice(p.VERBS))


def out_of_scope(s):
    return row("out of scope", *maybe_greet(s), user(s.style(out_question(s))), assistant(p.BIGGER))


def fact_questions(s):
    r = s.r
    text, asked = facts.conversation(s)
    r.shuffle(asked)
    question, answer, sentence = asked[0]
    thought = f"I look for it. It says: {sentence}" if r.random() < 0.08 else None
    if r.random() < 0.15 and not s.held:
        question = question[0].lower() + question[1:]
    if r.random() < 0.08 and not s.unseen:  # told in one turn, asked in the next
        turns = [user(text), assistant(r.choice(["I see.", "Thank you, I will remember that."])), user(question), assistant(answer, thought)]
    elif r.random() < 0.05 and not s.unseen:
        turns = [{"role": "system", "content": text}, user(question), assistant(answer, thought)]
    else:
        turns = [user(s.pick(facts.FORMS).format(t=text, q=question)), assistant(answer, thought)]
    if not s.unseen and r.random() < 0.7:  # more questions about the same text: more to learn from each token
        for question, answer, _ in asked[1:]:
            turns += [user(question), assistant(answer)]
    return row("facts", *turns)


def repeat(s):
    """Nothing but copying, of everything that has to be copied exactly."""
    r = s.r
    kinds = ["person", "city", "integer", "code", "time", "word", "word", "word", "thing", "day", "title", "email", "price"]
    values = [s.value(r.choice(kinds)) for _ in range(r.randint(1, 9))]
    text = r.choice([" ", " ", ", "]).join(str(v) for v in values)
    if r.random() < 0.4:
        return row("repeat", user(r.choice(["Write as a JSON list: {x}", "{x} as a JSON list", "JSON list of: {x}"]).format(x=", ".join(str(v) for v in values))), assistant(records.as_text(values)))
    return row("repeat", user(r.choice(["Repeat: {x}", "Say {x}", "Repeat after me: {x}", "say: {x}", "Please repeat {x}", "Copy this: {x}"]).format(x=text)), assistant(text))


def extraction(s):
    r = s.r
    said, wanted = records.extraction(s)
    thought = f"The keys are {', '.join(wanted)}." if r.random() < 0.05 else None
    return row("json", user(said), assistant(records.as_text(wanted), thought))


def story(s):
    asked, text = stories.told(s)
    return row("stories", user(s.style(asked)), assistant(text))


def result_text(r, result):
    """Results as tools of several languages write them."""
    if r.random() < 0.12:
        return ", ".join(f"{k}: {v}" for k, v in result.items())
    return json.dumps(result, separators=(",", ":") if r.random() < 0.4 else None)


def tool_use(s, kind=None):
    """A call, and often its result and the answer to it. Kinds: `tool call` (ends with the call), `tool result` (ends with the answer)."""
    r = s.r
    first = r.choice([*tools.MAIN, *tools.MAIN, tools.other, tools.other, tools.invented if not s.held else tools.other])
    uses = [first(s)]
    names = {uses[0][1]["function"]["name"]}
    for make in r.sample([*tools.MAIN, tools.other, tools.other, tools.invented], r.choice([0, 1, 1, 2, 2, 3])):
        use = make(s)
        if make is not first and use[1]["function"]["name"] not in names:
            names.add(use[1]["function"]["name"])
            uses.append(use)
    said, tool, arguments, result, answer = uses[0]
    offered = [use[1] for use in uses]
    r.shuffle(offered)
    call = {"type": "function", "function": {"name": tool["function"]["name"], "arguments": arguments}}
    thought = f"I need {call['function']['name']} for this." if r.random() < 0.07 else None
    turns = [*maybe_greet(s), user(s.style(said)), {**assistant("", thought), "tool_calls": [call]}]
    kind = kind or r.choice(["tool call", "tool result"])
    if kind == "tool call":
        return row(kind, *turns, tools=offered)
    turns += [{"role": "tool", "content": result_text(r, result)}, assistant(answer)]
    if not s.unseen:
        for said, tool, arguments, result, answer in uses[1 : r.choice([1, 2, 3])]:
            call = {"type": "function", "function": {"name": tool["function"]["name"], "arguments": arguments}}
            turns += [user(s.style(said)), {**assistant(""), "tool_calls": [call]}, {"role": "tool", "content": result_text(r, result)}, assistant(answer)]
    return row(kind, *turns, tools=offered)


def no_tool(s):
    """Tools are there, but what is said needs none of them, or another."""
    r = s.r
    offered = [t(s)[1] for t in r.sample([*tools.MAIN, tools.other, tools.invented], r.choice([1, 2, 3]))]
    make = r.choice([small_talk, small_talk, greeting, fact_questions, extraction, out_of_scope, out_of_scope] + ([] if s.unseen else [story]))
    inner = make(s)
    said = json.dumps(inner["messages"]).lower()
    if make is out_of_scope and re.search(r"weather|time|plus|minus|how much|how many|percent|root|news|stock|translate|say|population|recipe|search|count|write|letter", said):
        inner = greeting(s)
    return row("no tool", *inner["messages"], tools=offered)


def read(path):
    if not path.exists():
        return []
    data = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True).stdout
    return io.StringIO(data.decode("utf-8")).readlines()


def corpus(folder):
    text = read(folder / "corpus-tinystories-sample/stories.jsonl.zst")
    return [json.loads(line)["text"].strip().replace("“", '"').replace("”", '"').replace("’", "'").replace(" \n", "\n") for line in text[1:-1]]


def common_words(texts):
    """Words of the children's stories that several of them use, in small letters, of three letters and more."""
    counted = {}
    for text in texts:
        for word in set(re.findall(r"(?<![A-Za-z'])[a-z]{3,}(?![A-Za-z'])", text)):
            counted[word] = counted.get(word, 0) + 1
    return sorted(word for word, count in counted.items() if count >= 3)


def story_turns(s, text):
    found = re.findall(r"[a-z]+", text.lower())
    topics = [t for t in w.ANIMALS + w.THINGS if t in found]
    topic = s.r.choice(topics) if topics and s.r.random() < 0.7 else None
    return row("stories", user(s.style(s.pick(stories.ASKED) + (f" about {stories.article(topic)}" if topic else ""))), assistant(text))


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as f:
        for item in rows:
            f.write(json.dumps(item, ensure_ascii=False) + "\n")


def evaluation(seed, held, count, vocabulary):
    """`count` conversations of each kind, none twice; the last message of each is what is expected."""
    s = Source(random.Random(seed), True, held, vocabulary)
    makers = {"small talk": small_talk, "out of scope": out_of_scope, "facts": fact_questions, "json": extraction, "no tool": no_tool,
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
    a.add_argument("--scale", type=int, default=20000, help="conversations of each generated kind, about")
    a.add_argument("--json", type=float, default=3.5, help="requests for JSON, for each of --scale")
    a.add_argument("--corpus-stories", type=int, default=0, help="at most so many stories of the corpus besides our own")
    args = a.parse_args()
    told = corpus(args.corpora)
    vocabulary = common_words(told)
    s = Source(random.Random(args.seed), vocabulary=vocabulary)
    n, rows = args.scale, []
    makers = [(small_talk, n // 3), (greeting, n // 12), (out_of_scope, n // 3), (fact_questions, 5 * n), (repeat, n // 4), (extraction, int(args.json * n)), (tool_use, 5 * n // 2), (no_tool, n // 2), (story, n // 3)]
    for maker, count in makers:
        rows += [maker(s) for _ in range(count)]
    short = [t for t in told if t.isascii() and 30 <= len(t.split()) <= 150 and t[0].isupper()]
    rows += [story_turns(s, t) for t in short[: args.corpus_stories]]
    for item in rows:
        if item["messages"][0]["role"] != "system" and s.r.random() < 0.15:
            item["messages"].insert(0, {"role": "system", "content": s.r.choice(p.SYSTEM)})
    s.r.shuffle(rows)
    write(args.out / "train.jsonl", rows)
    write(args.out / "eval-a.jsonl", evaluation(args.seed + 1000, False, 50, vocabulary))
    write(args.out / "eval-b.jsonl", evaluation(args.seed + 2000, True, 50, vocabulary))
    counts = {}
    for item in rows:
        counts[item["kind"]] = counts.get(item["kind"], 0) + 1
    print(counts, len(vocabulary), "words of the corpus")


if __name__ == "__main__":
    main()
