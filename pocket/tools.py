"""Tools, how people ask for them, and what comes back. Lists of phrasings are (trained on, held out)."""
import words as w

WEATHER = (["what is the weather in {c}", "how is the weather in {c}", "tell me the weather in {c}", "weather in {c}", "is it raining in {c}", "is it cold in {c}", "what is the weather like in {c} today", "show me the weather for {c}", "i am going to {c}, what is the weather there", "what's the weather in {c}", "how's the weather in {c}",
            "what is the temperature in {c}", "is it sunny in {c}", "will it rain in {c}", "weather for {c} please", "check the weather in {c}", "get the weather for {c}", "can you check the weather in {c}", "i live in {c}. what is the weather", "is it snowing in {c} right now", "what's it like outside in {c}", "{c} weather",
            "i want to know the weather in {c}", "how hot is it in {c}", "how cold is it in {c} today", "current weather in {c}", "should i take a coat in {c}", "look up the weather in {c}", "do you know the weather in {c}", "what will the weather be in {c} tomorrow", "we are flying to {c}. is it warm there", "is it windy in {c}"],
           ["give me the forecast for {c}", "do i need an umbrella in {c}", "how warm is it in {c}", "tell me if the sun shines in {c}"])
TIMER = (["set a timer for {n} minutes", "start a timer for {n} minutes", "timer for {n} minutes", "please set a {n} minute timer", "wake me up in {n} minutes", "remind me in {n} minutes", "i need a timer for {n} minutes", "set the timer to {n} minutes", "{n} minute timer", "start a {n} minute timer", "set a {n}-minute timer", "timer {n} minutes",
          "can you set a timer for {n} minutes", "my eggs need {n} minutes, set a timer", "the cake is done in {n} minutes, start a timer", "let me know in {n} minutes", "put {n} minutes on the timer", "i want a timer of {n} minutes", "begin a timer for {n} minutes", "could you start a timer, {n} minutes", "alarm in {n} minutes", "ring in {n} minutes",
          "call me in {n} minutes", "set a timer, {n} minutes please", "tea takes {n} minutes. please time it", "tell me after {n} minutes", "i will nap for {n} minutes, wake me"],
         ["tell me when {n} minutes are over", "count down {n} minutes", "give me a {n} minute timer"])
CALCULATE = (["what is {e}", "calculate {e}", "how much is {e}", "please calculate {e}", "compute {e}", "can you calculate {e}", "tell me what {e} is", "{e}", "what's {e}", "{e} equals what", "how many is {e}", "i need {e}", "solve {e}", "do the math: {e}", "could you compute {e}", "please solve {e}", "result of {e}", "what is the result of {e}", "{e} =",
              "use the calculator for {e}", "help me with {e}", "what does {e} make", "can you tell me {e}"],
             ["work out {e}", "what do you get for {e}", "i want to know {e}"])
CALENDAR = (["add {t} on {d} at {h}", "add {t} to my calendar on {d} at {h}", "put {t} in my calendar for {d} at {h}", "i have {t} on {d} at {h}, add it", "schedule {t} for {d} at {h}", "please schedule {t} on {d} at {h}", "create an event: {t} on {d} at {h}", "{t} on {d} at {h}, please add it to my calendar", "on {d} at {h} i have {t}, put it in the calendar",
             "book {t} for {d} at {h}", "calendar: {t}, {d}, {h}", "set up {t} on {d} at {h}", "can you add {t} on {d} at {h}", "new event {t} on {d} at {h}", "save {t} for {d} at {h}", "enter {t} in my calendar, {d} {h}", "i want to schedule {t} on {d} at {h}", "add an event called {t} on {d} at {h}", "please put {t} on my calendar for {d}, {h}", "at {h} on {d} there is {t}, add it",
             "remember {t} on {d} at {h}", "arrange {t} for {d} at {h}"],
            ["plan {t} on {d} at {h}", "note {t} in the calendar, {d} at {h}", "make an entry for {t} on {d} at {h}"])
OPERATORS = [("+", ["plus", "+", "added to", "and"]), ("-", ["minus", "-", "less"]), ("*", ["times", "*", "multiplied by", "x"]), ("/", ["divided by", "/", "over"])]


def schema(name, parameters, description=""):
    properties = {key: {"type": type_} for key, type_ in parameters.items()}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {"type": "object", "properties": properties, "required": list(parameters)}}}


def weather(s):
    r = s.r
    c, f, key = s.city(), r.choice(["get_weather", "get_weather", "get_weather", "weather", "current_weather", "weather_lookup", "get_current_weather", "fetch_weather", "forecast"]), r.choice(["city", "city", "city", "location", "place", "town"])
    sky, t = r.choice(w.SKY), r.randint(-9, 39)
    result = r.choice([{"temperature": t, "condition": sky}, {key: c, "temperature": t, "condition": sky}, {"condition": sky, "temperature": t}, {"place": c, "sky": sky, "degrees": t}, {"temperature": t, "sky": sky}])
    return s.pick(WEATHER).format(c=c), schema(f, {key: "string"}), {key: c}, result, f"It is {sky} in {c} with {t} degrees."


def timer(s):
    r = s.r
    n, f, key = r.choice([r.randint(1, 90), r.randint(1, 30), r.randint(1, 240)]), r.choice(["set_timer", "set_timer", "set_timer", "timer", "start_timer", "create_timer"]), r.choice(["minutes", "minutes", "minutes", "duration", "time"])
    return s.pick(TIMER).format(n=n), schema(f, {key: "integer"}), {key: n}, r.choice([{"status": "ok"}, {"ok": True}, {"status": "started"}, {"minutes": n}]), f"The timer is set for {n} minutes."


def calculator(s):
    r = s.r
    operator, said = r.choice(OPERATORS)
    n, m = r.randint(2, 9999 if r.random() < 0.15 else 999 if r.random() < 0.4 else 99), r.randint(2, 999 if r.random() < 0.2 else 99)
    if operator == "/":
        n = m * r.randint(2, 30)
    outcome = {"+": n + m, "-": n - m, "*": n * m, "/": n // m}[operator]
    f, key = r.choice(["calculator", "calculator", "calculate", "compute", "math", "evaluate"]), r.choice(["expression", "expression", "expression", "formula"])
    between = r.choice(said)
    text = f"{n}{between}{m}" if between in "+-*/" and r.random() < 0.3 else f"{n} {between} {m}"
    return s.pick(CALCULATE).format(e=text), schema(f, {key: "string"}), {key: f"{n} {operator} {m}"}, {"result": outcome}, f"The result is {outcome}."


def calendar(s):
    r = s.r
    event, d, h = s.value("event"), r.choice(w.DAYS), s.value("time")
    title = event if r.random() < 0.4 else f"{event} with {s.first_name()}"
    f = r.choice(["add_event", "add_event", "create_event", "add_to_calendar", "schedule_event"])
    keys = r.choice([("title", "day", "time")] * 4 + [("name", "day", "time"), ("event", "day", "hour"), ("title", "date", "time"), ("day", "time", "title")])
    values = {"title": title, "name": title, "event": title, "day": d, "date": d, "time": h, "hour": h}
    said = s.pick(CALENDAR).format(t=r.choice(["", "", "", "a ", "the ", "my "]) + title, d=d, h=h)
    return said, schema(f, {k: "string" for k in keys}), {k: values[k] for k in keys}, r.choice([{"status": "ok"}, {"ok": True}, {"status": "added"}]), f"I have added {title} on {d} at {h}."


# names, {parameter: kind of value}, (trained, held out), what it answers, what is said then
OTHERS = [
    (["get_time", "current_time", "time_in"], {"city": "city"}, (["what time is it in {city}", "tell me the time in {city}", "current time in {city}", "time in {city} please"], ["how late is it in {city}"]), {"time": "time"}, "It is {time} in {city}."),
    (["send_message", "send_text", "message"], {"to": "first_name", "text": "phrase"}, (["send {to} a message: {text}", "text {to} {text}", "write {to} that {text}", "tell {to} that {text}", "message {to}: {text}", "send a message to {to} saying {text}"], ["let {to} know: {text}"]), {"status": "sent"}, "I have sent the message to {to}."),
    (["play_music", "play_song", "play"], {"song": "title"}, (["play {song}", "please play {song}", "i want to hear {song}", "put on {song}", "play the song {song}"], ["start the song {song}"]), {"status": "playing"}, "I am playing {song}."),
    (["search", "web_search", "search_web"], {"query": "phrase"}, (["search for {query}", "look up {query}", "search the web for {query}", "find {query} online", "search {query}"], ["see what the web says on {query}"]), {"hits": "count"}, "I found {hits} results."),
    (["convert_currency", "convert_money", "exchange"], {"amount": "count", "from": "currency", "to": "currency"}, (["convert {amount} {from} to {to}", "how much is {amount} {from} in {to}", "change {amount} {from} into {to}", "{amount} {from} in {to}"], ["what do {amount} {from} make in {to}"]), {"result": "count"}, "That is {result} {to}."),
    (["turn_on", "switch_on", "turn_on_device"], {"device": "noun"}, (["turn on the {device}", "switch on the {device}", "please turn the {device} on", "the {device} should be on"], ["start up the {device}"]), {"status": "on"}, "The {device} is on."),
    (["turn_off", "switch_off"], {"device": "noun"}, (["turn off the {device}", "switch off the {device}", "please turn the {device} off"], ["the {device} must be off"]), {"status": "off"}, "The {device} is off."),
    (["set_temperature", "set_heating", "thermostat"], {"room": "spot", "degrees": "small"}, (["set the {room} to {degrees} degrees", "heat the {room} to {degrees} degrees", "make it {degrees} degrees in the {room}"], ["i want {degrees} degrees in the {room}"]), {"status": "ok"}, "The {room} is set to {degrees} degrees."),
    (["translate", "translate_text"], {"text": "word", "language": "language"}, (["translate {text} to {language}", "translate {text} into {language}", "how do you say {text} in {language}", "what is {text} in {language}"], ["{text} in {language} please"]), {"translation": "made"}, "In {language} that is {translation}."),
    (["add_to_list", "add_item", "shopping_list"], {"item": "likes"}, (["add {item} to my list", "put {item} on the shopping list", "i need to buy {item}", "add {item} to the list please"], ["my list needs {item}"]), {"status": "ok"}, "I have added {item} to the list."),
    (["create_note", "take_note", "save_note"], {"text": "phrase"}, (["make a note: {text}", "note that {text}", "write down: {text}", "save a note: {text}", "take a note, {text}"], ["keep in mind for me: {text}"]), {"status": "saved"}, "I have saved the note."),
    (["book_table", "reserve_table", "make_reservation"], {"restaurant": "company", "people": "small", "time": "time"}, (["book a table at {restaurant} for {people} people at {time}", "reserve a table for {people} at {restaurant} at {time}", "table for {people} at {restaurant}, {time}"], ["we are {people} and want to eat at {restaurant} at {time}"]), {"status": "booked"}, "The table at {restaurant} is booked for {time}."),
    (["find_recipe", "get_recipe", "recipe"], {"dish": "likes"}, (["find a recipe for {dish}", "how do i cook {dish}", "recipe for {dish}", "give me a recipe with {dish}", "i want to cook {dish}"], ["what do i need to make {dish}"]), {"recipe": "title"}, "I found the recipe {recipe}."),
    (["get_stock_price", "stock_price"], {"symbol": "symbol"}, (["what is the stock price of {symbol}", "how much is {symbol} stock", "stock price {symbol}", "check the stock {symbol}"], ["at what price is {symbol} traded"]), {"price": "price"}, "The stock {symbol} is at {price}."),
    (["find_contact", "get_phone_number", "lookup_contact"], {"name": "person"}, (["what is the phone number of {name}", "find the contact {name}", "look up {name}", "number of {name} please", "how can i call {name}"], ["i want to phone {name}"]), {"phone": "phone"}, "The number of {name} is {phone}."),
    (["send_email", "email"], {"to": "email", "subject": "phrase"}, (["send an email to {to} about {subject}", "email {to} about {subject}", "write an email to {to}: {subject}", "mail {to} about {subject}"], ["compose a mail to {to} on {subject}"]), {"status": "sent"}, "I have sent the email to {to}."),
    (["find_flight", "search_flights", "book_flight"], {"from": "city", "to": "city"}, (["find a flight from {from} to {to}", "i want to fly from {from} to {to}", "flights from {from} to {to}", "book a flight from {from} to {to}"], ["how do i fly to {to} from {from}"]), {"flight": "symbol"}, "The flight {flight} goes from {from} to {to}."),
    (["roll_dice", "dice"], {"sides": "small"}, (["roll a dice with {sides} sides", "roll a {sides}-sided die", "throw a die with {sides} sides"], ["i need a roll of a {sides} sided dice"]), {"result": "small"}, "You rolled {result}."),
    (["set_reminder", "remind", "add_reminder"], {"text": "phrase", "time": "time"}, (["remind me to {text} at {time}", "set a reminder at {time}: {text}", "at {time} remind me to {text}", "reminder: {text} at {time}"], ["do not let me forget at {time}: {text}"]), {"status": "ok"}, "I will remind you at {time}."),
    (["set_alarm", "alarm"], {"time": "time"}, (["set an alarm for {time}", "wake me up at {time}", "alarm at {time}", "i need to get up at {time}"], ["let the alarm ring at {time}"]), {"status": "ok"}, "The alarm is set for {time}."),
    (["get_news", "news"], {"topic": "word"}, (["news about {topic}", "what is the news on {topic}", "get the news about {topic}", "any news about {topic}"], ["tell me the latest on {topic}"]), {"headline": "title"}, "The news is: {headline}."),
    (["order_food", "order"], {"dish": "likes", "quantity": "small"}, (["order {quantity} {dish}", "i want {quantity} portions of {dish}", "please order {quantity} times {dish}"], ["get me {quantity} {dish}"]), {"status": "ordered"}, "I have ordered {quantity} {dish}."),
    (["get_population", "population"], {"city": "city"}, (["how many people live in {city}", "population of {city}", "what is the population of {city}"], ["number of inhabitants of {city}"]), {"population": "code"}, "{population} people live in {city}."),
    (["call", "make_call", "phone"], {"name": "first_name"}, (["call {name}", "please call {name}", "phone {name}", "make a call to {name}"], ["ring up {name}"]), {"status": "calling"}, "I am calling {name}."),
]
TYPES = {"count": "integer", "small": "integer", "age": "integer", "code": "integer"}


def other(s):
    names, parameters, said, result, answer = s.r.choice(OTHERS)
    values = {k: s.value(kind) for k, kind in parameters.items()}
    results = {k: s.value(kind) if kind in s.KINDS else kind for k, kind in result.items()}
    return s.pick(said).format(**values), schema(s.r.choice(names), {k: TYPES.get(kind, "string") for k, kind in parameters.items()}), values, results, answer.format(**{**values, **results})


VERBS = "get set find add send show open close start stop make read write move check list update remove buy sell count paint wash feed visit rent".split()


def invented(s):
    """A tool of a random name: only what stands in the prompt says how to call it."""
    r = s.r
    verb, noun = r.choice(VERBS), s.noun()
    kinds = [r.choice(["word", "first_name", "city", "small", "color", "noun", "day", "time"]) for _ in range(r.choice([1, 1, 2]))]
    keys = []
    while len(keys) < len(kinds):
        k = r.choice(w.NOUNS)
        if k not in keys:
            keys.append(k)
    values = {k: s.value(kind) for k, kind in zip(keys, kinds)}
    parts = r.choice([" and ", ", ", " "]).join(r.choice(["the {k} {v}", "{k} {v}", "{k} {v}", "{k} = {v}", "the {k} is {v}"]).format(k=k, v=v) for k, v in values.items())
    link = r.choice([" with ", " for ", ": ", ", "])
    lead = r.choice(["", "", "please ", "can you ", "i want to "])
    said = f"{lead}{verb} {r.choice(['the ', 'a ', '', 'my '])}{noun}{link}{parts}" if r.random() < 0.8 else f"use {verb}_{noun}{link}{parts}"
    types = {k: TYPES.get(kind, "string") for k, kind in zip(keys, kinds)}
    return said, schema(f"{verb}_{noun}", types), values, r.choice([{"status": "ok"}, {"ok": True}]), "It is done."


MAIN = [weather, timer, calculator, calendar]
