"""JSON extraction: records told in sentences, and the object that is asked for. Lists of phrasings are (trained on, held out)."""
import json
import re

import words as w

# kinds of values; `Source.value` draws them
# record: fields {key: (kind, other names of the key)}, sentences (trained, held out). A sentence tells the fields that it names.
RECORDS = [
    ({"name": ("person", ["full_name", "first_name", "person"]), "age": ("age", ["years", "age_years"]), "city": ("city", ["location", "town", "home", "place"]), "job": ("job", ["profession", "occupation", "work"]), "likes": ("likes", ["food", "favorite", "favorite_food"]),
      "color": ("color", ["favorite_color", "colour"]), "hobby": ("hobby", ["interest", "activity"]), "pet": ("animal", ["animal"]), "country": ("place", ["nation", "origin"]), "language": ("language", ["speaks"])},
     (["My name is {name}.", "I am {name}.", "I'm {name}.", "Hello, I am {name}.", "Hi, my name is {name}.", "I am called {name}.", "The name is {name}.", "You can call me {name}.", "This is {name}.", "{name} here.", "I am {age} years old.", "I am {age}.", "I'm {age}.", "The age is {age}.", "I just turned {age}.",
       "I live in {city}.", "I am from {city}.", "My city is {city}.", "I moved to {city}.", "I work as a {job}.", "I am a {job}.", "My job is {job}.", "I work in {city} as a {job}.", "I like {likes}.", "I love {likes}.", "I like to eat {likes}.", "My favorite color is {color}.", "I like the color {color}.",
       "My hobby is {hobby}.", "I enjoy {hobby}.", "I have a {pet}.", "My pet is a {pet}.", "I speak {language}.", "I come from {country}.", "I was born in {country}.", "I am {name} and I live in {city}.", "I am {name}, {age} years old.", "My name is {name} and I am {age} years old.", "I'm {name}, a {job} from {city}.",
       "{name} is {age} years old.", "{name} is {age}.", "{name} lives in {city}.", "{name} is {age} years old and lives in {city}.", "{name} is a {job} from {city}.", "{name} works as a {job}.", "{name}, {age}, lives in {city}.", "{name} is a {age}-year-old {job}.", "{name} ({age}) is a {job}.", "{name} likes {likes}.",
       "{name} loves {likes} and lives in {city}.", "{name}, {age}, works as a {job} in {city}.", "{name} from {city} is {age}.", "{name} has a {pet}.", "{name} speaks {language}.", "Our neighbor {name} is {age} years old.", "My friend {name} lives in {city}.", "My sister {name} is {age}.", "My brother {name} works as a {job}.",
       "Meet {name}, who is {age} and likes {likes}.", "There is a {job} called {name}.", "The {job} {name} lives in {city}.", "{name} is from {country} and speaks {language}.", "Name: {name}.", "Age: {age}.", "City: {city}.", "In {city} lives {name}, {age} years old.", "{name} enjoys {hobby}.", "The favorite color of {name} is {color}.",
       "{name} plays with a {pet} in {city}.", "A {job} named {name} moved to {city}.", "{name}'s favorite food is {likes}.", "{name}'s hobby is {hobby}."],
      ["People call me {name}.", "My age is {age}.", "My home is in {city}.", "My favorite food is {likes}.", "I earn money as a {job}.", "The color I like is {color}.", "At the age of {age}, {name} lives in {city}.", "{name}, who works as a {job}, is {age} years old.", "The {age}-year-old {name} comes from {city}."])),
    ({"item": ("thing", ["product", "article", "object", "name"]), "price": ("price", ["cost", "amount"]), "color": ("color", ["colour"]), "quantity": ("count", ["count", "amount", "number"]), "shop": ("company", ["store", "seller", "brand"]), "size": ("size", [])},
     (["The {item} costs {price} dollars.", "The {item} costs {price} euros.", "A {item} for {price} dollars.", "I bought a {item} for {price} euros.", "The price of the {item} is {price}.", "The {color} {item} costs {price} dollars.", "I bought a {color} {item}.", "We need {quantity} of them.", "I want {quantity} pieces.", "The {item} is {color}.",
       "It costs {price} dollars.", "The color is {color}.", "{shop} sells a {item} for {price} dollars.", "I found it at {shop}.", "Size {size}.", "The size is {size}.", "A {color} {item} in size {size}.", "This {item} is {color} and costs {price}.", "The order has {quantity} pieces of the {item}.", "{item}, {color}, {price} dollars.",
       "{shop} has a new {item} in {color}.", "I would like to order {quantity} pieces.", "She paid {price} euros for the {item}.", "There are {quantity} left."],
      ["For {price} dollars you get a {item}.", "The {item} from {shop} is {color}.", "You pay {price} for this {item}.", "Please send me {quantity} pieces of the {item}."])),
    ({"title": ("event", ["event", "name", "what"]), "day": ("day", ["date", "weekday"]), "time": ("time", ["start", "hour", "at"]), "place": ("city", ["location", "city", "where"]), "person": ("person", ["with", "guest", "name"])},
     (["The {title} is on {day} at {time}.", "We have a {title} on {day}.", "{title} on {day} at {time}.", "The {title} starts at {time}.", "It is in {place}.", "It starts at {time}.", "The {title} with {person} is on {day}.", "I meet {person} in {place}.", "On {day} there is a {title} in {place}.", "On {day} at {time} we have a {title}.",
       "{person} invites you to a {title} on {day}.", "The {title} takes place in {place} on {day} at {time}.", "Join us for the {title} on {day} in {place}.", "{person} will be there.", "Remember the {title} at {time} in {place}.", "Come to {place} on {day}.", "I have a {title} with {person} at {time}.", "The {title} was moved to {day}."],
      ["Do not forget: {title}, {day}, {time}.", "{day} is the day of the {title}.", "{person} plans a {title} in {place} for {day}."])),
    ({"name": ("person", ["pet_name", "pet"]), "animal": ("animal", ["kind", "species", "type"]), "age": ("age", ["years"]), "color": ("color", ["fur", "colour"]), "owner": ("person", ["keeper"])},
     (["{name} is a {color} {animal}.", "My {animal} is called {name}.", "The {animal} {name} is {age} years old.", "{owner} has a {animal} called {name}.", "{name} is a {animal}.", "The owner is {owner}.", "I have a {animal} named {name}.", "Our {animal} {name} is {color}.", "{name} is {age} years old.", "{owner} owns a {color} {animal}.",
       "A {animal} called {name} belongs to {owner}.", "{owner}'s {animal} is {age} years old."],
      ["We call our {animal} {name}.", "The {color} {animal} of {owner} is {age}."])),
    ({"title": ("title", ["book", "movie", "name"]), "author": ("person", ["writer", "director", "by"]), "year": ("year", ["published", "date"]), "pages": ("count", ["length"]), "genre": ("word", ["kind", "type"])},
     (["{title} was written by {author} in {year}.", "{author} wrote {title}.", "{author} wrote {title} in {year}.", "The book {title} has {pages} pages.", "The book {title} by {author} came out in {year}.", "{title} by {author}.", "{title} was published in {year}.", "It has {pages} pages.", "It is a {genre} book.",
       "The author of {title} is {author}.", "The {genre} book {title} is from {year}.", "I read {title} by {author}, {pages} pages.", "The movie {title} by {author} is from {year}."],
      ["In {year} {author} published {title}.", "With {pages} pages, {title} is a long book."])),
    ({"from": ("city", ["origin", "start", "departure"]), "to": ("city", ["destination", "goal", "arrival"]), "date": ("date", ["day"]), "time": ("time", ["departure_time"]), "price": ("price", ["cost", "fare"]), "passenger": ("person", ["name", "traveler"])},
     (["The train goes from {from} to {to}.", "I travel from {from} to {to} on {date}.", "{passenger} flies from {from} to {to}.", "The flight to {to} leaves at {time}.", "The ticket costs {price} dollars.", "We leave {from} on {date}.", "The bus from {from} to {to} leaves at {time}.", "{passenger} goes to {to} on {date}.",
       "A ticket from {from} to {to} is {price} euros.", "I want to go to {to}.", "The train leaves at {time}.", "Book a trip from {from} to {to} for {passenger}."],
      ["{passenger} takes the train to {to} at {time}.", "Starting in {from}, we reach {to} on {date}."])),
    ({"name": ("person", ["contact", "customer"]), "email": ("email", ["mail", "address"]), "phone": ("phone", ["number", "telephone"]), "company": ("company", ["employer", "firm", "organization"]), "city": ("city", ["office", "location"]), "job": ("job", ["role", "position", "title"])},
     (["{name} works at {company}.", "{name}'s email is {email}.", "The phone number is {phone}.", "Write to {name} at {email}.", "Call {name} at {phone}.", "{company} is in {city}.", "{name} is a {job} at {company}.", "{name} from {company} has the number {phone}.", "You can reach {name} at {email}.", "My email is {email}.",
       "My number is {phone}.", "{company} has a new {job}, {name}.", "{name} founded {company} in {city}.", "Contact: {name}, {email}, {phone}."],
      ["The mail of {name} is {email}.", "For {company}, {name} answers at {phone}."])),
]

ASKED = (
    ["Extract {k} as JSON: {s}", "Give me JSON with {k}. {s}", "{s} Write {k} as JSON.", "Return a JSON object with {k}. {s}", "JSON with {k}: {s}", "{s} Extract {k} as JSON.", "Extract the {k} as JSON. {s}", "Extract {k} from this text as JSON: {s}", "Return JSON with the keys {k}: {s}", "{s} Give me a JSON object with the keys {k}.",
     "Make JSON with keys {k} from: {s}", "Convert to JSON with {k}: {s}", "{s} Return only JSON with {k}.", "{s}\nReturn {k} as a JSON object.", "Text: {s}\nKeys: {k}\nJSON:", "Write a JSON object with the fields {k} for this: {s}", "Here is a sentence: {s} Extract {k} in JSON.", "As JSON ({k}): {s}", "{s} Answer as JSON with {k}.",
     "From the sentence \"{s}\" extract {k} as JSON.", "Read this and return JSON with {k}: {s}", "Fill in the JSON keys {k}. {s}", "I need a JSON object with {k}. {s}", "{s} What is the JSON with {k}?", "Output JSON with the fields {k}. Text: {s}", "Parse this into JSON with {k}: {s}", "{s} Put {k} into JSON.", "Get {k} from the text and write JSON. {s}",
     "Extract the following as JSON: {k}. {s}", "Please extract {k} and answer with JSON: {s}", "Give me {k} as JSON: {s}", "Summarize as JSON with keys {k}: {s}", "Use the keys {k} and write JSON: {s}", "{s} JSON please, with {k}.", "Turn this sentence into a JSON object with keys {k}: {s}", "JSON only. Keys: {k}. {s}", "{s} Make a JSON object from this with {k}."],
    ["Please turn this into JSON with {k}: {s}", "{s} Now give me {k} in JSON.", "Show me {k} of this text in JSON form: {s}", "Could you write down {k} as a JSON object? {s}"],
)
VERBS = ["extract", "get", "give me", "return", "write", "list", "find", "pull out", "take", "collect", "output", "print", "produce", "provide", "read", "copy", "prepare", "report", "note", "fill in", "look up", "pick out", "identify", "tell me", "send me", "I want", "I need", "I would like"]
MAKES = ["make", "create", "build", "generate", "write", "produce", "return", "give me", "prepare", "output", "form", "compose", "answer with", "reply with", "respond with", "I need", "I want"]
BEFORE = ["", "", "", "", "please ", "can you ", "could you please ", "I want you to ", "next, ", "your task: ", "you should ", "kindly ", "hey, ", "hi! ", "ok, ", "then ", "now please ", "help me: ", "would you ", "let us ", "hello, "]
FORMS = ["as JSON", "in JSON", "as a JSON object", "as JSON data", "in JSON format", "to JSON", "with JSON", "as an object in JSON", "using JSON", "(JSON)", "in a JSON object", "as json", "formatted as JSON"]
SOURCES = ["from {s}", "from this: {s}", "from the text: {s}", "from this sentence: {s}", "of: {s}", "out of this text: {s}", "for: {s}", "- {s}", ": {s}", ". {s}", "\n{s}", "\n\n{s}", " from the following: {s}", "given {s}", "based on: {s}", "when you read: {s}", "in \"{s}\"", ". Text: {s}", ". The text is: {s}", ". Here it is: {s}", ". Input: {s}"]
OPENERS = ["", "", "", "Text: ", "Here is the text: ", "Sentence: ", "Input: ", "Note: ", "Listen: ", "Read: ", "Someone wrote: ", "From an email: ", "I heard this: ", "Consider: ", "Given: "]
OBJECTS = ["a JSON object", "JSON", "one JSON object", "a JSON", "some JSON", "a small JSON object", "an object in JSON"]
WITH = ["with {k}", "with the keys {k}", "that has {k}", "containing {k}", "having the fields {k}", "of {k}", "using the keys {k}", "whose keys are {k}", "which holds {k}", "including {k}", "(keys: {k})", "with keys {k}", "for {k}"]


def composed(r, keys, text):
    """A request put together from parts; none of the held-out ones can come out."""
    if r.random() < 0.5:
        request = f"{r.choice(VERBS)} {r.choice(['', '', '', 'the ', 'only ', 'just '])}{keys} {r.choice(FORMS)}"
    else:
        request = f"{r.choice(MAKES)} {r.choice(OBJECTS)} {r.choice(WITH).format(k=keys)}"
    request = r.choice(BEFORE) + request
    request = request[0].upper() + request[1:] if r.random() < 0.8 else request
    if r.random() < 0.5:
        return re.sub(r" (?=[:.\n])", "", f"{request} {r.choice(SOURCES).format(s=text)}")
    return f"{r.choice(OPENERS)}{text}{r.choice([' ', ' ', chr(10), ' - ', chr(10) * 2])}{request}{r.choice(['', '.', '.', '!', ', please.', ' from this.', ' from the text.'])}"


WHOLE = ["Extract the data as JSON with {k}: {s}", "Return the JSON object {h} filled in from: {s}", "Fill this in: {h}\n{s}", "{s} Answer in the form {h}.", "{s}\nFormat: {h}", "Use this schema: {h} Text: {s}", "Extract JSON like {h} from: {s}"]
FREE = ["The {key} is {v}.", "The {key} is {v}.", "{key}: {v}.", "Its {key} is {v}.", "The {key}: {v}.", "We know that the {key} is {v}.", "It has the {key} {v}.", "{v} is the {key}.", "As {key} it has {v}.", "There is a {key}, {v}.", "The {key} was {v}.", "They say that the {key} is {v}.", "{key} - {v}.", "My {key} is {v}.", "{key} = {v}."]


def hint(keys, kinds, r):
    """A schema-like hint."""
    type_ = lambda k: "number" if k in ("age", "price", "count", "year", "integer") else "string"
    shape = r.choice(["types", "empty", "dots"])
    return "{" + ", ".join(f'"{k}": ' + {"types": f'"{type_(kind)}"', "empty": '""', "dots": "..."}[shape] for k, kind in zip(keys, kinds)) + "}"


def listed(r, keys):
    style = r.random()
    if style < 0.45:
        return ", ".join(keys)
    if style < 0.7:
        return ", ".join(keys[:-1]) + " and " + keys[-1] if len(keys) > 1 else keys[0]
    if style < 0.8:
        return " and ".join(keys)
    if style < 0.87:
        return ", ".join("the " + k for k in keys)
    quote = r.choice(['"', "'", "`"])
    return ", ".join(f"{quote}{k}{quote}" for k in keys)


def free(s):
    """Keys and values of any kind: what stands in the text is all there is to go by."""
    r = s.r
    keys = []
    while len(keys) < r.choice([1, 2, 2, 3, 3, 4]):
        k = r.choice(w.NOUNS) if r.random() < 0.6 else s.word()
        if k not in keys:
            keys.append(k)
    kinds = [r.choice(["person", "city", "word", "thing", "integer", "color", "animal", "day", "time", "word", "job", "code"]) for _ in keys]
    values = [s.value(k) for k in kinds]
    form = r.choice(FREE)
    sentence = " ".join((form if r.random() < 0.6 else r.choice(FREE)).format(key=k, v=v) for k, v in zip(keys, values))
    return keys, kinds, values, sentence[0].upper() + sentence[1:] if r.random() < 0.5 and not sentence.startswith(str(values[0])) else sentence


def told(s):
    r = s.r
    fields, sentences = r.choice(RECORDS + [RECORDS[0]] * 4)
    pool = sentences[1 if s.held else 0]
    values, text = {}, []
    wanted = r.choice([1, 2, 2, 3, 3, 4])
    order = r.sample(pool, len(pool))
    for sentence in order:
        slots = [k for k in fields if "{" + k + "}" in sentence]
        new = [k for k in slots if k not in values]
        known = [k for k in slots if k in values]
        if not new or len(values) + len(new) > wanted + 1 or known and r.random() < 0.7:
            continue
        for k in new:
            values[k] = s.value(fields[k][0])
        text.append(sentence.format(**values))
        if len(values) >= wanted:
            break
    if r.random() < 0.12:
        text.insert(r.randrange(len(text) + 1), r.choice(["It was a nice day.", "Thank you!", "Nothing else is known.", "That is all for now.", "What a day!", "Please note this.", "We are happy about it."]))
    keys = list(values)
    if r.random() < 0.3:
        r.shuffle(keys)
    if len(keys) > 1 and r.random() < 0.25:
        keys = keys[:-1]
    return keys, [fields[k][0] for k in keys], [values[k] for k in keys], " ".join(text), [r.choice([k] * 2 + fields[k][1]) if fields[k][1] and r.random() < 0.35 else k for k in keys]


def extraction(s):
    r = s.r
    if r.random() < 0.15 and not s.held:
        keys, kinds, values, text = free(s)
        chosen = r.sample(range(len(keys)), r.randint(1, len(keys))) if r.random() < 0.4 else list(range(len(keys)))
        keys, kinds, values = [keys[i] for i in chosen], [kinds[i] for i in chosen], [values[i] for i in chosen]
        names = keys
    else:
        keys, kinds, values, text, names = told(s)
        if len(set(names)) < len(names):
            names = keys
    if r.random() < 0.06 and not s.held:
        names = [n.replace("_", " ") for n in names]
        names = [n.capitalize() for n in names]
    if r.random() < 0.12 and not s.held:
        said = r.choice(WHOLE).format(k=listed(r, names), s=text, h=hint(names, kinds, r))
    else:
        said = composed(r, listed(r, names), text) if r.random() < 0.5 and not s.held else s.pick(ASKED).format(k=listed(r, names), s=text)
    return said, dict(zip(names, values))


def as_text(value):
    return json.dumps(value, ensure_ascii=False)
