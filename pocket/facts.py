"""Facts told in the prompt and questions about them. Lists of phrasings are (trained on, held out); {a} is who it is about, {b} the value."""
import words as w

# (told, asked, answer, kind of value)
ABOUT_PEOPLE = [
    ((["{a} lives in {b}.", "{a} lives in {b}.", "The home of {a} is in {b}.", "{a} moved to {b}.", "{a} has a house in {b}.", "{a} comes from {b}.", "In {b} lives {a}.", "{a} stays in {b}.", "{a} is from {b}.", "You can visit {a} in {b}.", "Since May {a} lives in {b}.", "{b} is where {a} lives.", "{a} found a flat in {b}.", "The city of {a} is {b}.", "{a} grew up in {b}."], ["{a} has settled in {b}."]),
     (["Where does {a} live?", "In which city does {a} live?", "Tell me where {a} lives.", "Where is {a} from?", "What city does {a} live in?", "Where is the home of {a}?", "Which city is the home of {a}?", "Do you know where {a} lives?", "In what town does {a} live?", "Where can I find {a}?", "Do you remember where {a} lives?", "{a} lives where?", "What place is {a} from?", "Can you say where {a} lives?", "I wonder where {a} lives.", "What is the city of {a}?"], ["What is the home city of {a}?", "Where is {a} at home?"]), "{a} lives in {b}.", "city"),
    ((["{a} has a {b}.", "{a} owns a {b}.", "{a} bought a {b}.", "{a} got a {b} as a present.", "{a} carries a {b}.", "There is a {b} in the bag of {a}.", "The {b} is from {a}.", "Look, {a} has a {b}!", "They gave {a} a {b}.", "A {b} is what {a} has.", "{a} keeps a {b} at home.", "{a} holds a {b}."], ["{a} is the owner of a {b}."]),
     (["What does {a} have?", "Tell me what {a} has.", "Which thing does {a} have?", "What does {a} own?", "What did {a} get?", "What did {a} buy?", "What does {a} carry?", "What thing is with {a}?", "{a} has what?", "What is in the hands of {a}?", "What did they give {a}?", "Do you know what {a} has?", "What does {a} keep?"], ["What is it that {a} has?", "What belongs to {a}?"]), "{a} has a {b}.", "thing"),
    ((["{a} likes {b}.", "{a} loves {b}.", "{a} likes to eat {b}.", "The favorite food of {a} is {b}.", "{a}'s favorite food is {b}.", "{a} eats {b} every day.", "{a} is crazy about {b}.", "Nothing is better for {a} than {b}.", "{a} wants {b} for lunch.", "{b} is what {a} likes.", "{a} really likes {b}.", "{a} enjoys eating {b}."], ["{a} is a big fan of {b}."]),
     (["What does {a} like?", "What food does {a} like?", "Tell me what {a} likes.", "What does {a} like to eat?", "What is the favorite food of {a}?", "What is {a}'s favorite food?", "What does {a} love?", "What does {a} eat?", "What would {a} like for lunch?", "Which food is it that {a} likes?", "What dish does {a} like?", "{a} likes what?", "Do you know what {a} likes?", "What should I cook for {a}?"], ["Which food does {a} like to eat?", "What is it that {a} likes?"]), "{a} likes {b}.", "likes"),
    ((["{a} is {b} years old.", "{a} is {b}.", "The age of {a} is {b}.", "{a} turned {b}.", "{a} is now {b} years old.", "This year {a} is {b}.", "At {b}, {a} is still young.", "{a}, {b}, is here.", "{a} has lived for {b} years.", "{a} ({b}) is here.", "{a} celebrates {b} years."], ["{a} has an age of {b}."]),
     (["How old is {a}?", "What is the age of {a}?", "Tell me how old {a} is.", "What is {a}'s age?", "Do you know how old {a} is?", "What age is {a}?", "{a} is how old?", "How many years does {a} have?", "I want to know how old {a} is.", "Say how old {a} is.", "Can you tell me the age of {a}?"], ["How many years old is {a}?", "How many years has {a} lived?"]), "{a} is {b} years old.", "age"),
    ((["The code of {a} is {b}.", "{a} has the code {b}.", "{a}'s code is {b}.", "The secret code of {a} is {b}.", "{a} uses the code {b}.", "{a} got the code {b}.", "The code that {a} has is {b}.", "{a} must enter {b} as the code.", "They gave {a} the code {b}."], ["{b} is the code of {a}."]),
     (["What is the code of {a}?", "Which code does {a} have?", "Tell me the code of {a}.", "What is {a}'s code?", "What code does {a} use?", "What is the secret code of {a}?"], ["Please give me the code of {a}."]), "The code of {a} is {b}.", "code"),
    ((["{a} works as a {b}.", "{a} is a {b}.", "The job of {a} is {b}.", "{a} has worked as a {b} for years.", "{a} became a {b}.", "{a} trained as a {b}.", "As a {b}, {a} works a lot.", "{a}, a {b}, works at night.", "The {b} of the town is {a}.", "{a} found work as a {b}.", "{a} makes a living as a {b}.", "{a}'s job is {b}."], ["{a} earns money as a {b}."]),
     (["What is the job of {a}?", "What does {a} do for work?", "Tell me the job of {a}.", "What is {a}'s job?", "What does {a} do for a living?", "What is the profession of {a}?", "What does {a} work as?", "What job does {a} have?", "{a} works as what?", "What kind of work does {a} have?", "Which job is it that {a} has?", "How does {a} earn money?", "What is {a} by profession?", "Do you know the job of {a}?"], ["As what does {a} work?", "What work does {a} do?"]), "{a} works as a {b}.", "job"),
    ((["The friend of {a} is {b}.", "{a} has a friend called {b}.", "{a}'s friend is {b}.", "The best friend of {a} is {b}.", "{a} is friends with {b}.", "{a} and {b} are friends.", "{b} is the friend of {a}.", "{b} is a good friend of {a}.", "{a} made friends with {b}."], ["{a} has a good friend, {b}."]),
     (["Who is the friend of {a}?", "What is the name of the friend of {a}?", "Tell me the friend of {a}.", "Who is {a}'s friend?", "Who is friends with {a}?", "What is the friend of {a} called?", "Do you know the friend of {a}?", "Which person is the friend of {a}?", "What friend has {a}?"], ["Which friend does {a} have?"]), "The friend of {a} is {b}.", "person"),
    ((["{a} has a {b} as a pet.", "The pet of {a} is a {b}.", "{a} keeps a {b}.", "{a}'s pet is a {b}.", "{a} lives with a {b}.", "A {b} lives with {a}.", "{a} feeds a {b}.", "{a} adopted a {b}."], ["At home {a} has a {b}."]),
     (["What pet does {a} have?", "Which animal does {a} have?", "What is the pet of {a}?", "What kind of pet does {a} have?", "What animal does {a} keep?", "What is {a}'s pet?"], ["Which pet lives with {a}?"]), "{a} has a {b}.", "animal"),
    ((["{a} speaks {b}.", "The language of {a} is {b}.", "{a} learned {b} at school.", "{a} can speak {b}.", "{b} is the language of {a}.", "{a} talks in {b}.", "At home {a} speaks {b}.", "{a} is fluent in {b}.", "You can talk to {a} in {b}."], ["{a} knows {b} well."]),
     (["What language does {a} speak?", "Which language does {a} speak?", "What is the language of {a}?", "What does {a} speak?", "Which language can {a} speak?"], ["In which language does {a} speak?"]), "{a} speaks {b}.", "language"),
    ((["{a} was born in {b}.", "The birth year of {a} is {b}.", "{a} was born in the year {b}.", "In {b} {a} was born.", "{a}, born in {b}, is here.", "The year of birth of {a} is {b}."], ["{b} is the year when {a} was born."]),
     (["When was {a} born?", "In which year was {a} born?", "What is the birth year of {a}?", "What year was {a} born in?"], ["Tell me the year when {a} was born."]), "{a} was born in {b}.", "year"),
    ((["{a} enjoys {b}.", "The hobby of {a} is {b}.", "{a}'s hobby is {b}.", "{a} spends the weekend with {b}.", "{a} loves {b} as a hobby.", "For fun {a} does {b}.", "{b} is the hobby of {a}.", "{a} does {b} every weekend.", "{a} took up {b}."], ["{a} is good at {b}."]),
     (["What is the hobby of {a}?", "What hobby does {a} have?", "What does {a} enjoy?", "What is {a}'s hobby?", "What does {a} do for fun?", "What does {a} like to do?", "Do you know the hobby of {a}?", "Say what the hobby of {a} is.", "What does {a} do on the weekend?"], ["Which hobby does {a} have?"]), "The hobby of {a} is {b}.", "hobby"),
    ((["The favorite color of {a} is {b}.", "{a} likes the color {b}.", "{a}'s favorite color is {b}.", "{a} painted the house {b}.", "{b} is the color of {a}.", "{a} always wears {b}.", "{a} thinks that {b} is the best color."], ["{a} likes {b} more than any other color."]),
     (["What is the favorite color of {a}?", "Which color does {a} like?", "What color does {a} like?", "What is {a}'s favorite color?"], ["Tell me which color {a} likes."]), "The favorite color of {a} is {b}.", "color"),
    ((["{a} meets us on {b}.", "{a} arrives on {b}.", "{a} comes on {b}.", "The visit of {a} is on {b}.", "On {b} we see {a}.", "{a} will be here on {b}.", "We expect {a} on {b}.", "{b} is when {a} arrives.", "{a} visits us on {b}."], ["{b} is the day when {a} comes."]),
     (["When does {a} arrive?", "On which day does {a} come?", "When does {a} come?", "What day does {a} arrive?", "When is the visit of {a}?", "When do we see {a}?", "{a} comes when?", "When will {a} be here?", "Which day does {a} come?"], ["Which day is the visit of {a}?"]), "{a} comes on {b}.", "day"),
    ((["The teacher of {a} is {b}.", "{b} teaches {a}.", "{a} has a teacher named {b}."], ["{a} learns from {b}."]),
     (["Who is the teacher of {a}?", "Who teaches {a}?", "What is the name of {a}'s teacher?", "Who is {a}'s teacher?"], ["Which teacher does {a} have?"]), "The teacher of {a} is {b}.", "person"),
    ((["{a} works at {b}.", "{a} has a job at {b}.", "The employer of {a} is {b}.", "{a} started at {b}.", "{b} employs {a}.", "{a} is employed by {b}.", "The company of {a} is {b}.", "{b} hired {a}.", "{a} earns money at {b}."], ["{b} pays {a}."]),
     (["Where does {a} work?", "For which company does {a} work?", "Who is the employer of {a}?", "What company does {a} work for?", "Who employs {a}?", "Which company is it where {a} works?", "At which company is {a}?", "What is the company of {a}?"], ["Which company employs {a}?"]), "{a} works at {b}.", "company"),
]
# about a thing: {a} is a noun
ABOUT_THINGS = [
    ((["The {a} is {b}.", "The color of the {a} is {b}.", "The {a} was painted {b}.", "There is a {b} {a}.", "The {a} has the color {b}.", "They painted the {a} {b}.", "{b} is the color of the {a}.", "I have a {b} {a}."], ["Somebody painted the {a} {b}."]),
     (["What color is the {a}?", "What is the color of the {a}?", "Which color does the {a} have?", "Tell me the color of the {a}."], ["In which color is the {a}?"]), "The {a} is {b}.", "color"),
    ((["The {a} is in the {b}.", "The {a} lies in the {b}.", "I put the {a} in the {b}.", "Somebody left the {a} in the {b}.", "You can find the {a} in the {b}.", "In the {b} is the {a}.", "The {a} was left in the {b}.", "We store the {a} in the {b}.", "Look in the {b} for the {a}.", "The {b} is where the {a} is.", "The {a} stands in the {b}."], ["They keep the {a} in the {b}."]),
     (["Where is the {a}?", "Where can I find the {a}?", "Where did I put the {a}?", "Tell me where the {a} is.", "In which place is the {a}?", "Where was the {a} left?", "The {a} is where?", "Where should I look for the {a}?", "I cannot find the {a}. Where is it?", "In which room is the {a}?", "Where do we keep the {a}?"], ["Do you know where the {a} could be?"]), "The {a} is in the {b}.", "spot"),
    ((["The {a} costs {b} dollars.", "The price of the {a} is {b} dollars.", "You pay {b} dollars for the {a}.", "They sell the {a} for {b} dollars.", "I paid {b} dollars for the {a}.", "{b} dollars is the price of the {a}.", "The {a} is {b} dollars.", "The {a} sells at {b} dollars."], ["For the {a} they want {b} dollars."]),
     (["How much does the {a} cost?", "What is the price of the {a}?", "What does the {a} cost?", "How much is the {a}?", "How many dollars is the {a}?", "What do they want for the {a}?", "Tell me the price of the {a}.", "For how much is the {a}?", "How much did I pay for the {a}?"], ["What do I have to pay for the {a}?"]), "The {a} costs {b} dollars.", "price"),
    ((["The {a} belongs to {b}.", "The owner of the {a} is {b}.", "{b} owns the {a}.", "{b} bought the {a}.", "It is {b} who has the {a}.", "The {a} is owned by {b}.", "{b} is the owner of the {a}.", "The {a} is from {b}.", "{b} keeps the {a}.", "That {a} is of {b}."], ["The {a} is the property of {b}."]),
     (["Who owns the {a}?", "Who is the owner of the {a}?", "Whose {a} is it?", "To whom does the {a} belong?", "Who has the {a}?", "Who bought the {a}?", "Tell me who owns the {a}.", "Who keeps the {a}?", "Which person has the {a}?", "The {a} belongs to whom?", "By whom is the {a} owned?"], ["Which person owns the {a}?"]), "The {a} belongs to {b}.", "person"),
    ((["The {a} opens at {b}.", "The {a} starts at {b}.", "The {a} is at {b}.", "The {a} begins at {b}.", "At {b} the {a} begins.", "We go to the {a} at {b}.", "The time of the {a} is {b}.", "Be there for the {a} at {b}.", "{b} is when the {a} starts."], ["{b} is the time of the {a}."]),
     (["When does the {a} start?", "At what time is the {a}?", "When is the {a}?", "What time does the {a} begin?", "When does the {a} open?", "What time is the {a}?"], ["At which hour does the {a} begin?"]), "The {a} starts at {b}.", "time"),
    ((["The {a} is on {b}.", "The {a} was moved to {b}.", "We have the {a} on {b}.", "The {a} takes place on {b}.", "On {b} there is the {a}.", "The day of the {a} is {b}.", "{b} is when we have the {a}.", "They planned the {a} for {b}."], ["{b} is the day of the {a}."]),
     (["When is the {a}?", "On which day is the {a}?", "What day is the {a}?", "Which day is the {a} on?", "When do we have the {a}?", "Do you know the day of the {a}?", "The {a} is on which day?"], ["Tell me the day of the {a}."]), "The {a} is on {b}.", "day"),
    ((["The {a} is called {b}.", "The name of the {a} is {b}.", "They named the {a} {b}.", "We call the {a} {b}.", "The {a} has the name {b}.", "{b} is the name of the {a}.", "The {a} goes by the name {b}.", "The {a}, called {b}, is new."], ["Everybody knows the {a} as {b}."]),
     (["What is the {a} called?", "What is the name of the {a}?", "How is the {a} called?", "Tell me the name of the {a}.", "What do they call the {a}?"], ["Which name does the {a} have?"]), "The {a} is called {b}.", "person"),
    ((["The {a} weighs {b} kilos.", "The weight of the {a} is {b} kilos."], ["On the scale the {a} has {b} kilos."]), (["How much does the {a} weigh?", "How heavy is the {a}?", "What is the weight of the {a}?"], ["How many kilos has the {a}?"]), "The {a} weighs {b} kilos.", "age"),
    ((["There are {b} {a}s in the room.", "We have {b} {a}s.", "I counted {b} {a}s."], ["The number of {a}s is {b}."]), (["How many {a}s are there?", "How many {a}s do we have?", "What is the number of {a}s?"], ["Tell me how many {a}s there are."]), "There are {b} {a}s.", "age"),
]
# about whoever is typing
ABOUT_ME = [
    ((["My name is {b}.", "I am {b}.", "I'm {b}.", "Call me {b}."], ["People call me {b}."]), (["What is my name?", "Who am I?", "Do you know my name?", "What am I called?", "Tell me my name."], ["How am I called?"]), "Your name is {b}.", "person"),
    ((["I live in {b}.", "I am from {b}.", "My home is {b}."], ["My house stands in {b}."]), (["Where do I live?", "In which city do I live?", "Where am I from?", "Tell me where I live."], ["What is my city?"]), "You live in {b}.", "city"),
    ((["My {a} is called {b}.", "The name of my {a} is {b}.", "I have a {a} called {b}.", "I have a {a} named {b}.", "My {a}'s name is {b}."], ["We named our {a} {b}."]), (["What is my {a} called?", "What is the name of my {a}?", "What is my {a}'s name?", "How is my {a} called?", "Do you know the name of my {a}?"], ["Which name did I give my {a}?"]), "Your {a} is called {b}.", "person"),
    ((["My favorite {a} is {b}.", "The {a} that I like best is {b}."], ["I like {b} best of every {a}."]), (["What is my favorite {a}?", "Which {a} do I like best?", "Tell me my favorite {a}."], ["Do you know which {a} I like most?"]), "Your favorite {a} is {b}.", "word"),
    ((["I am {b} years old.", "My age is {b}.", "I am {b}."], ["I turned {b} last week."]), (["How old am I?", "What is my age?"], ["Tell me how old I am."]), "You are {b} years old.", "age"),
    ((["I work as a {b}.", "My job is {b}.", "I am a {b}."], ["I became a {b}."]), (["What is my job?", "What do I do for work?", "What do I work as?"], ["Which job do I have?"]), "You work as a {b}.", "job"),
    ((["I put my {a} in the {b}.", "My {a} is in the {b}.", "I left my {a} in the {b}."], ["I have hidden my {a} in the {b}."]), (["Where is my {a}?", "Where did I put my {a}?", "Where can I find my {a}?", "Where did I leave my {a}?"], ["In which place is my {a}?"]), "Your {a} is in the {b}.", "spot"),
    ((["My {a} number is {b}.", "The number of my {a} is {b}.", "My {a} has the number {b}."], ["{b} is the number of my {a}."]), (["What is my {a} number?", "What is the number of my {a}?", "Which number does my {a} have?"], ["Tell me the number of my {a}."]), "Your {a} number is {b}.", "code"),
]
# any relation at all: {k} is its name
OPEN = ((["{b} is the {k} of {a}.", "{a} chose {b} as {k}.", "When it comes to the {k}, {a} has {b}.", "{a}: {k} {b}.", "{a} told me that the {k} is {b}.", "We gave {a} the {k} {b}.", "{b} is {a}'s {k}.", "The {k} for {a} is {b}.", "{a} picked {b} for the {k}.", "Everyone knows that the {k} of {a} is {b}.", "{a} is known for the {k} {b}.", "The {k} of {a} is {b}.", "The {k} of {a} is {b}.", "{a}'s {k} is {b}.", "{a} has the {k} {b}.", "For {a} the {k} is {b}."], ["As {k}, {a} has {b}."]),
        (["What is the {k} of {a}?", "What is {a}'s {k}?", "Tell me the {k} of {a}.", "Which {k} does {a} have?", "Do you know the {k} of {a}?", "What {k} does {a} have?", "Which {k} did {a} choose?", "I want to know the {k} of {a}.", "Say the {k} of {a}.", "Can you tell me the {k} of {a}?", "{a} has which {k}?", "What {k} is it that {a} has?", "And the {k} of {a}?", "Give me the {k} of {a}.", "What was the {k} of {a}?"], ["Please name the {k} of {a}."]), "The {k} of {a} is {b}.")
# any verb at all, real or not
DONE = (["{a} {v}s {b}.", "{a} {v}s {b} every day.", "Yesterday {a} {v}ed {b}.", "{a} wants to {v} {b}.", "{a} likes to {v} {b}.", "{b} is {v}ed by {a}.", "It is {a} who {v}s {b}.", "Every morning {a} {v}s {b}.", "{a} has to {v} {b}.", "{a} and nobody else {v}s {b}.", "{a} will {v} {b}.", "I saw how {a} {v}ed {b}."], ["{a} tries to {v} {b}."])
DONE_WHAT = (["What does {a} {v}?", "What did {a} {v}?", "What is it that {a} {v}s?", "Tell me what {a} {v}s.", "What does {a} like to {v}?", "Which thing does {a} {v}?", "Do you know what {a} {v}s?", "What will {a} {v}?", "What has {a} to {v}?", "What is {v}ed by {a}?"], ["Please say what {a} {v}s."])
DONE_WHO = (["Who {v}s {b}?", "Who {v}ed {b}?", "Who is it that {v}s {b}?", "By whom is {b} {v}ed?", "Tell me who {v}s {b}.", "Who wants to {v} {b}?", "Who has to {v} {b}?", "Which person {v}s {b}?", "Do you know who {v}s {b}?"], ["Please say who {v}s {b}."])
ACTIONS = "paint clean help visit call follow watch play cook fix kick clean wash want need count pull push open lift draw hunt guard reach touch mix order print plant rent start sort test train warm fold load pack".split()
SPOTS = "kitchen drawer garden garage box cupboard basement attic bag fridge office car shed bathroom closet cellar barn library wardrobe basket hallway bedroom".split()
FORMS = (["{t} {q}", "{t} {q}", "{t} {q}", "{t} {q}", "{t}\n{q}", "{t}\n\n{q}", "{q} {t}", "Text: {t}\nQuestion: {q}", "Read this: {t} {q}", "{t} Now tell me: {q}", "Here is what I know. {t} {q}", "Facts: {t} Question: {q}", "{q}\n{t}", "Context: {t}\n{q}", "{t} My question: {q}", "Answer from the text. {t} {q}", "{t} So, {q}",
          "Question: {q}\nText: {t}", "Remember this: {t} {q}", "{t} Quick question: {q}", "I tell you something. {t} {q}", "{t} Tell me: {q}", "Use the text. {t} {q}", "{t}\nQ: {q}", "Passage: {t}\n\nQuestion: {q}", "{q} Here is the text: {t}", "Given this: {t} {q}", "{t} Please answer: {q}", "Information: {t} Question: {q}", "{t} Can you answer this? {q}", "Hi! {t} {q}", "Please read: {t} Then answer: {q}"],
         ["{t} {q}", "{t} {q}", "{t} And now please answer: {q}", "Use only this: {t}\n\n{q}"])
FILLERS = ["It was a long day.", "The sun was shining.", "Everyone was happy.", "They like to play together.", "It was raining.", "That is all.", "Nobody knows why.", "They met at the market.", "The shop was closed."]


def told(s):
    """[(sentence, {question lists}, answer)] about several people or things, questions that only one of them answers."""
    r = s.r
    count = r.choice([1, 2, 2, 3, 3])
    kind = r.choice(["people", "people", "people", "people", "things", "things", "me", "open", "done", "same"] if not s.held else ["people", "people", "people", "people", "things", "things", "me", "open", "same"])
    facts = []
    if kind == "me":
        for lists, asked, answer, value in r.sample(ABOUT_ME, min(count, 3)):
            a = s.noun()
            facts.append((lists, asked, answer, {"a": a, "b": s.value(value)}))
        if len(facts) > 1 and len({f[3]["b"] for f in facts}) < len(facts):
            facts = facts[:1]
        return facts
    if kind == "open":
        k = s.noun()
        return [(OPEN[0], OPEN[1], OPEN[2], {"a": s.person(), "b": s.value(r.choice(["person", "city", "word", "code", "color", "animal", "thing", "job"])), "k": r.choice([k, s.noun()])}) for _ in range(count)]
    if kind == "done":
        done = []
        for _ in range(count):
            verb = r.choice(ACTIONS) if r.random() < 0.6 else s.spliced(ACTIONS)
            asked = r.choice([DONE_WHAT, DONE_WHAT, DONE_WHO])
            done.append((DONE, asked, "{a} {v}s {b}.", {"a": s.person(), "v": verb, "b": r.choice(["the ", "the ", "a ", "my ", ""]) + s.noun()}))
        return done
    if kind == "same":  # the same relation, told of different ones: who it is about decides
        source = r.choice([ABOUT_PEOPLE, ABOUT_PEOPLE, ABOUT_THINGS])
        picked = [r.choice(source)] * max(2, count)
    else:
        source = ABOUT_THINGS if kind == "things" else ABOUT_PEOPLE
        picked = r.sample(source, count)
    names = set()
    one = s.person() if kind == "people" and r.random() < 0.3 else None
    for lists, asked, answer, value in picked:
        a = one or (s.person() if source is ABOUT_PEOPLE else r.choice(w.EVENTS) if value in ("time", "day") else s.noun())
        if a in names and not one:
            continue
        names.add(a)
        facts.append((lists, asked, answer, {"a": a, "b": s.value(value)}))
    return facts


def conversation(s):
    """(text before the question, [(question, answer, sentence it is told in)])"""
    r = s.r
    facts = told(s)
    sentences = [s.pick(f[0]).format(**f[3]) for f in facts]
    asked = [(s.pick(f[1]).format(**f[3]), f[2].format(**f[3]), sentence) for f, sentence in zip(facts, sentences)]
    if r.random() < 0.12:
        sentences.insert(r.randrange(len(sentences) + 1), r.choice(FILLERS))
    if len(sentences) == 2 and r.random() < 0.15 and not s.held:
        text = sentences[0][:-1] + r.choice([" and ", ", and ", ", but "]) + (sentences[1] if not sentences[1].startswith(("The ", "There ")) else sentences[1][0].lower() + sentences[1][1:])
    else:
        text = " ".join(sentences)
    return text, asked
