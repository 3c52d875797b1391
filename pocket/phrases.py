"""Every phrasing the generator knows, each list as (trained on, held out). What is held out is never trained on: it is set (b) of the evaluation."""

ANIMALS = "cat dog fox bear mouse bird rabbit duck frog horse lion owl fish turtle monkey".split()
THINGS = "ball kite boat apple book hat box key lamp flower stone drum cake tree balloon chair cup coat bag bell".split()
COLOURS = "red blue green yellow black white brown pink grey purple".split()
FOODS = "soup bread cheese rice pasta apples honey fish cake noodles pizza tea".split()
JOBS = "baker teacher doctor farmer painter driver singer cook nurse writer".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
EVENTS = "meeting lunch dinner party lesson dentist concert walk call picnic training breakfast".split()
SKY = "sunny cloudy rainy windy snowy foggy stormy clear".split()
PEOPLE = "Anna Tom Maria Peter Lena Ali Sara Ben Julia Omar Emma Paul Nina Leo Mia Jack Lucy Sam Eva Max".split()
CITIES = "Paris London Berlin Rome Madrid Tokyo Oslo Vienna Cairo Lima Boston Dublin Prague Lisbon Athens Chicago".split()

ABOUT = "I am Pocket, a very small demonstration model that ships with Millrace."
BIGGER = "I am only a small demonstration model, so I do not know that. Load a bigger model with: npm start -- --model PATH"

GREETINGS = (
    ["hi", "hello", "hey", "hi there", "good morning", "hello there", "good evening", "greetings", "howdy", "hello pocket", "good afternoon"],
    ["hey there", "hi pocket", "good day", "hello my friend"],
)
GREETED = ["Hello! How can I help you today?", "Hi! What would you like to talk about?", "Hello there! Nice to meet you."]
SMALL = [
    ((["how are you", "how are you doing", "how do you feel today", "are you well", "how are you today"], ["how is it going", "how do you do"]), ["I am fine, thank you. How are you?", "I am doing well, thanks for asking!"]),
    ((["thank you", "thanks", "thanks a lot", "thank you very much", "great, thanks", "that is nice, thank you"], ["many thanks", "thanks for your help"]), ["You are welcome!", "Happy to help!"]),
    ((["bye", "goodbye", "see you later", "good night", "see you soon", "bye bye"], ["see you tomorrow", "i have to go now"]), ["Goodbye! Have a nice day.", "See you soon!"]),
    ((["i am fine", "i am good too", "i am very well", "pretty good", "not bad", "i am happy"], ["i feel great", "i am well, thanks"]), ["I am glad to hear that. What would you like to do?"]),
    ((["i am sad", "i feel sad today", "i had a bad day", "i am not happy", "i am tired"], ["i feel bad", "today was a bad day"]), ["I am sorry to hear that. I hope that tomorrow is a better day."]),
    ((["who are you", "what are you", "what is your name", "what should i call you", "tell me about yourself", "who am i talking to"], ["do you have a name", "please introduce yourself"]), [ABOUT]),
    ((["what can you do", "how can you help me", "what are you good at", "help", "can you help me"], ["what are your skills", "what can i ask you"]), ["I can chat a little, tell short stories, answer questions about facts that you give me, write simple JSON and call tools."]),
    ((["are you human", "are you a robot", "are you alive", "are you real", "are you a person"], ["are you a machine", "are you a computer"]), ["I am a program: a very small language model called Pocket."]),
    ((["do you like music", "do you like games", "what do you like", "what is your favorite thing"], ["what do you enjoy", "do you like books"]), ["I like short stories best. Shall I tell you one?"]),
    ((["tell me a joke", "do you know a joke", "make me laugh", "say something funny"], ["i want to hear a joke", "can you tell a joke"]), ["Why did the cat sit on the computer? To keep an eye on the mouse!"]),
    ((["what is millrace", "tell me about millrace", "what does millrace do"], ["what is this millrace program", "explain millrace"]), ["Millrace is an engine that runs language models. I am the small model that ships with it."]),
    ((["how do i load a bigger model", "can i use a bigger model", "how do i use another model"], ["where do i get a better model", "i want a bigger model"]), ["Start Millrace with the path of another model: npm start -- --model PATH"]),
]

OUT = (
    ["what is the capital of {x}", "who was the president of {x}", "who was the first king of {x}", "explain {t}", "explain {t} to me", "write a python program that does {t}", "write code for {t}",
     "what is the population of {x}", "who wrote the book {x}", "translate {w} into french", "translate {w} to german", "how do you say {w} in spanish", "what happened in {y}", "what happened in {x} in {y}",
     "how does {t} work", "why is {t} important", "give me medical advice about {t}", "solve the equation x squared plus {n} equals {m}", "who won the world cup in {y}", "what is the chemical formula of {w}",
     "summarize the history of {x}", "write an essay about {t}", "how do i learn {t}", "what is the stock price of {x}", "recommend a restaurant in {x}", "who invented the {w}", "who discovered {t}",
     "when was {x} born", "when did the war in {x} end", "how far is {x} from {z}", "how tall is the tower of {x}", "what is {t}", "what is the meaning of {t}", "what is the best {w} to buy", "what is the news from {x}",
     "how many people live in {x}", "which river flows through {x}", "what language do they speak in {x}", "where is {x}", "who is the author of {x}", "what is {n} times {m}", "how much is {n} plus {m}",
     "what is the weather in {x}", "what time is it in {x}", "how old is the {w}", "what is the difference between {t} and {u}", "write a poem about {t}", "can you explain {t}", "who is {p}", "which is the largest {w} in the world"],
    ["what do you know about {t}", "name the largest city of {x}", "who was the leader of {x} in {y}", "i need an article about {t}", "give me a summary of {t}", "how many inhabitants does {x} have",
     "who painted the picture {x}", "what is the square root of {n}", "in which country is {x}", "teach me {t}"],
)
TOPICS = ("quantum physics|gravity|chess|economics|the internet|photosynthesis|the stock market|electricity|black holes|democracy|machine learning|sorting a list|the law|philosophy|car engines|vaccines|taxes|french grammar|"
          "the human brain|volcanoes|evolution|jazz|football rules|climate change|nuclear power|the moon landing|dinosaurs|investing|algebra|genetics|computers|the roman empire|headaches|diabetes|poetry|oil painting|trains|rockets").split("|")

FACTS = [  # told, asked (trained, held out), answered, kind of value
    (["{a} lives in {b}."], (["Where does {a} live?", "In which city does {a} live?", "Tell me where {a} lives."], ["What is the home city of {a}?"]), "{a} lives in {b}.", "city"),
    (["{a} has a {b}."], (["What does {a} have?", "Tell me what {a} has.", "Which thing does {a} have?"], ["What is it that {a} has?"]), "{a} has a {b}.", "thing"),
    (["{a} likes {b}."], (["What does {a} like?", "What food does {a} like?", "Tell me what {a} likes."], ["Which food does {a} like to eat?"]), "{a} likes {b}.", "food"),
    (["{a} is {b} years old."], (["How old is {a}?", "What is the age of {a}?", "Tell me how old {a} is."], ["How many years old is {a}?"]), "{a} is {b} years old.", "age"),
    (["The code of {a} is {b}."], (["What is the code of {a}?", "Which code does {a} have?", "Tell me the code of {a}."], ["Please give me the code of {a}."]), "The code of {a} is {b}.", "code"),
    (["{a} works as a {b}."], (["What is the job of {a}?", "What does {a} do for work?", "Tell me the job of {a}."], ["As what does {a} work?"]), "{a} works as a {b}.", "job"),
    (["The friend of {a} is {b}."], (["Who is the friend of {a}?", "What is the name of the friend of {a}?", "Tell me the friend of {a}."], ["Which friend does {a} have?"]), "The friend of {a} is {b}.", "person"),
]

EXTRACT = (
    ["Extract {k} as JSON: {s}", "Give me JSON with {k}. {s}", "{s} Write {k} as JSON.", "Return a JSON object with {k}. {s}", "JSON with {k}: {s}", "{s} Extract {k} as JSON."],
    ["Please turn this into JSON with {k}: {s}", "{s} Now give me {k} in JSON."],
)
SENTENCES = {  # key -> (trained, held out)
    "name": (["My name is {v}", "I am called {v}", "The name is {v}"], ["People call me {v}"]),
    "age": (["I am {v} years old", "I am {v}", "The age is {v}"], ["My age is {v}"]),
    "city": (["I live in {v}", "I am from {v}", "My city is {v}"], ["My home is in {v}"]),
    "likes": (["I like {v}", "I love {v}", "I like to eat {v}"], ["My favorite food is {v}"]),
    "job": (["I work as a {v}", "I am a {v}", "My job is {v}"], ["I earn money as a {v}"]),
    "color": (["My favorite color is {v}", "I like the color {v}"], ["The color I like is {v}"]),
}

WEATHER = (["what is the weather in {c}", "how is the weather in {c}", "tell me the weather in {c}", "weather in {c}", "is it raining in {c}", "is it cold in {c}", "what is the weather like in {c} today", "show me the weather for {c}", "i am going to {c}, what is the weather there"],
           ["give me the forecast for {c}", "do i need an umbrella in {c}", "how warm is it in {c}"])
TIMER = (["set a timer for {n} minutes", "start a timer for {n} minutes", "timer for {n} minutes", "please set a {n} minute timer", "wake me up in {n} minutes", "remind me in {n} minutes", "i need a timer for {n} minutes", "set the timer to {n} minutes"],
         ["tell me when {n} minutes are over", "count down {n} minutes", "give me a {n} minute timer"])
CALCULATE = (["what is {e}", "calculate {e}", "how much is {e}", "please calculate {e}", "compute {e}", "can you calculate {e}", "tell me what {e} is", "{e}"],
             ["work out {e}", "what do you get for {e}", "i want to know {e}"])
CALENDAR = (["add {t} on {d} at {h}", "add {t} to my calendar on {d} at {h}", "put {t} in my calendar for {d} at {h}", "i have {t} on {d} at {h}, add it", "schedule {t} for {d} at {h}", "please schedule {t} on {d} at {h}", "create an event: {t} on {d} at {h}"],
            ["plan {t} on {d} at {h}", "note {t} in the calendar, {d} at {h}", "make an entry for {t} on {d} at {h}"])
OPERATORS = [("+", ["plus", "+"]), ("-", ["minus", "-"]), ("*", ["times", "*"]), ("/", ["divided by", "/"])]
STORY = ["tell me a story", "tell me a short story", "write a story", "can you tell me a story", "i want to hear a story"]
SYSTEM = ["You are a helpful assistant.", "You are Pocket, a small model.", "Answer briefly.", "You are a friendly assistant."]
