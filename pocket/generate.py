"""Writes the pocket model's training text: conversations in ChatML, one JSON object a line.

Everything is drawn from one seed. Entities are mostly random syllables, so that the model learns to copy from its prompt instead of
remembering names. Corpora are optional: a folder that is absent is left out, and the counts are printed.

    python pocket/generate.py --corpora ../shared/data --out build/pocket/train.jsonl --seed 1
"""
import argparse
import io
import json
import random
import re
import subprocess
from pathlib import Path

SYLLABLES = "ba be bi bo bu da de di do du fa fe fi fo ga go ha he hi ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we za ze zo".split()
ANIMALS = "cat dog fox bear mouse bird rabbit duck frog horse lion owl fish turtle monkey".split()
THINGS = "ball kite boat apple book hat box key lamp flower stone drum cake tree balloon".split()
COLOURS = "red blue green yellow black white brown pink grey purple".split()
FOODS = "soup bread cheese rice pasta apples honey fish cake noodles".split()


def name(r):
    return "".join(r.choice(SYLLABLES) for _ in range(r.choice([2, 2, 3]))).capitalize()


def chat(*turns, system=None):
    roles = ["user", "assistant"]
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]


ABOUT = [
    "I am Pocket, a very small demonstration model that ships with Millrace.",
    "I am Pocket, the tiny model that comes with Millrace. I can chat a little and tell short stories.",
]
BIGGER = "I am only a small demonstration model, so I do not know that. Load a bigger model with: npm start -- --model PATH"
GREETINGS = ["hi", "hello", "hey", "hi there", "good morning", "hello there", "good evening", "hey there", "greetings", "howdy"]
GREETED = ["Hello! How can I help you today?", "Hi! What would you like to talk about?", "Hello there! Nice to meet you.", "Hi! I am happy to see you. What shall we do?"]
SMALL = [
    (["how are you", "how are you doing", "how do you feel today", "are you well", "how is it going"], ["I am fine, thank you. How are you?", "I am doing well, thanks for asking!", "Very well, thank you. And you?"]),
    (["thank you", "thanks", "thanks a lot", "thank you very much", "great, thanks"], ["You are welcome!", "Happy to help!", "Any time!"]),
    (["bye", "goodbye", "see you later", "good night", "see you soon"], ["Goodbye! Have a nice day.", "See you soon!", "Good night! Sleep well."]),
    (["i am fine", "i am good too", "i am very well", "pretty good", "not bad"], ["I am glad to hear that. What would you like to do?", "That is good to hear! Shall I tell you a story?"]),
    (["i am sad", "i feel sad today", "i had a bad day", "i am not happy"], ["I am sorry to hear that. Do you want to talk about it?", "Oh no, I am sorry. I hope that tomorrow is a better day."]),
    (["who are you", "what are you", "what is your name", "what should i call you", "tell me about yourself"], ABOUT),
    (["what can you do", "how can you help me", "what are you good at", "help"], ["I can chat a little, tell short stories, answer questions about facts that you give me, and write simple JSON."]),
    (["are you human", "are you a robot", "are you alive", "are you real"], ["No, I am a small language model. I run on your computer.", "I am a program: a very small language model called Pocket."]),
    (["do you like music", "do you like games", "what do you like", "what is your favorite thing"], ["I like short stories best. Shall I tell you one?", "I am a program, but I enjoy telling stories."]),
    (["tell me a joke", "do you know a joke", "make me laugh"], ["Why did the cat sit on the computer? To keep an eye on the mouse!", "What do you call a bear with no teeth? A gummy bear!"]),
    (["what is millrace", "tell me about millrace"], ["Millrace is an engine that runs language models. I am the small model that ships with it."]),
]
OUT = [
    "what is the capital of {x}", "who was the president of {x}", "explain quantum physics", "write a python program that sorts a list", "what is the population of {x}",
    "who wrote the book {x}", "translate {x} into french", "what happened in {y}", "how does a car engine work", "give me medical advice about {x}",
    "solve the equation x squared plus {n} equals {m}", "what is the weather on mars", "who won the world cup in {y}", "what is the chemical formula of {x}",
    "summarize the history of {x}", "write an essay about {x}", "how do i invest my money", "what is the stock price of {x}", "recommend a restaurant in {x}",
]


def style(r, text):
    text = text if r.random() < 0.4 else text.capitalize()
    if r.random() < 0.5:
        text += "?" if re.match(r"(how|what|who|are|do|can|why|where|which|is)\b", text.lower()) else r.choice(["!", "."])
    return text


def small_talk(r):
    turns = []
    if r.random() < 0.5:
        turns += [style(r, r.choice(GREETINGS)), r.choice(GREETED)]
    for asked, answered in r.sample(SMALL, r.choice([1, 1, 2, 3])):
        turns += [style(r, r.choice(asked)), r.choice(answered)]
    return chat(*turns)


def out_of_scope(r):
    asked = r.choice(OUT).format(x=name(r), y=r.randint(1800, 2025), n=r.randint(2, 99), m=r.randint(2, 99))
    return chat(style(r, asked), BIGGER)


def facts(r):
    who = r.sample([name(r) for _ in range(6)], 3)
    kinds = [
        ("{a} lives in {b}.", "Where does {a} live", "{a} lives in {b}.", lambda: name(r)),
        ("{a} has a {b}.", "What does {a} have", "{a} has a {b}.", lambda: f"{r.choice(COLOURS)} {r.choice(THINGS)}"),
        ("{a} likes {b}.", "What does {a} like", "{a} likes {b}.", lambda: r.choice(FOODS)),
        ("{a} is {b} years old.", "How old is {a}", "{a} is {b} years old.", lambda: str(r.randint(3, 99))),
        ("The code of {a} is {b}.", "What is the code of {a}", "The code of {a} is {b}.", lambda: str(r.randint(100, 9999))),
        ("{a} works as a {b}.", "What is the job of {a}", "{a} works as a {b}.", lambda: r.choice("baker teacher doctor farmer painter driver singer cook".split())),
    ]
    told = [(a, *k[:3], k[3]()) for a, k in zip(who, r.sample(kinds, 3))]
    a, _, question, answer, b = r.choice(told)
    text = " ".join(t[1].format(a=t[0], b=t[4]) for t in told)
    return chat(f"{text} {question.format(a=a)}?", answer.format(a=a, b=b))


def extraction(r):
    a, city, age, food = name(r), name(r), r.randint(3, 99), r.choice(FOODS)
    fields = r.sample([("name", a), ("age", age), ("city", city), ("likes", food)], r.choice([2, 3, 4]))
    wanted = dict(fields)
    parts = {"name": f"My name is {a}", "age": f"I am {age} years old", "city": f"I live in {city}", "likes": f"I like {food}"}
    sentence = ". ".join(parts[k] for k in wanted) + "."
    keys = ", ".join(wanted)
    ask = r.choice(["Extract {k} as JSON: {s}", "Give me JSON with {k}. {s}", "{s} Write {k} as JSON."])
    return chat(ask.format(k=keys, s=sentence), json.dumps(wanted))


def story_turns(r, story):
    words = re.findall(r"[a-z]+", story.lower())
    topics = [w for w in ANIMALS + THINGS if w in words]
    topic = r.choice(topics) if topics and r.random() < 0.7 else None
    ask = r.choice(["tell me a story", "tell me a short story", "write a story", "can you tell me a story", "i want to hear a story"])
    return chat(style(r, ask + (f" about a {topic}" if topic else "")), story)


def stories(folder, max_words):
    text = read(folder / "corpus-tinystories-sample/stories.jsonl.zst")
    for line in text[1:-1]:
        story = json.loads(line)["text"].strip().replace("“", '"').replace("”", '"').replace("’", "'").replace(" \n", "\n")
        if story.isascii() and 30 <= len(story.split()) <= max_words and story[0].isupper():
            yield story


def persona(folder):
    for line in read(folder / "corpus-synthetic-persona-chat/dialogues.jsonl.zst"):
        messages = json.loads(line)["messages"]
        if messages and messages[0]["role"] == "user" and all(m["content"].isascii() for m in messages):
            yield messages


def read(path):
    if not path.exists():
        return []
    data = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True).stdout
    return io.StringIO(data.decode("utf-8")).readlines()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--corpora", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--scale", type=int, default=6000, help="conversations of each generated kind")
    a = p.parse_args()
    r = random.Random(a.seed)
    rows, counts = [], {}

    def take(kind, conversations):
        before = len(rows)
        rows.extend(conversations)
        counts[kind] = len(rows) - before

    take("small talk", [small_talk(r) for _ in range(a.scale)])
    take("out of scope", [out_of_scope(r) for _ in range(a.scale // 3)])
    take("facts", [facts(r) for _ in range(2 * a.scale)])
    take("extraction", [extraction(r) for _ in range(a.scale)])
    told = list(stories(a.corpora, 260))
    take("stories", [story_turns(r, s) for s in told for _ in range(3)])
    take("persona chat", list(persona(a.corpora)))
    r.shuffle(rows)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    with open(a.out, "w") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")
    print(counts)


if __name__ == "__main__":
    main()
