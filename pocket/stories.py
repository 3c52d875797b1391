"""A grammar of short stories: plots with slots, so that a very small model sees only whole, correct sentences.

A story is about a hero and a thing; what the request names is really used. Each sentence has several wordings.
"""
import words as w

HE, SHE, IT = ("he", "him", "his"), ("she", "her", "her"), ("it", "it", "its")
BOYS = "Tom Ben Leo Max Omar Ravi Hugo Sven Kofi Jan Luca Emil Felix Noah Arjun Diego".split()
GIRLS = "Anna Lena Mia Lucy Eva Priya Aisha Ida Clara Rosa Freya Zofia Amara Sofia Yuki Nora".split()
PLACES = ["in a small village", "near a big forest", "in a house by the sea", "on a green hill", "in a quiet town", "at the edge of a lake", "in a cottage by the river", "on a little island", "next to an old mill", "in a valley full of flowers"]
GOES = ["to the park", "to the forest", "to the river", "to the market", "to the beach", "to the old bridge", "to the garden", "up the hill", "to the lake", "into the woods"]
WEATHERS = ["One sunny morning", "One windy day", "One bright afternoon", "One day", "One rainy morning", "On a cold winter day", "One evening", "Early one morning", "On a warm summer day"]
TRAITS = ["kind", "curious", "brave", "shy", "cheerful", "clever", "gentle", "funny", "patient", "careful"]
FRIENDS = ["mouse", "bird", "rabbit", "frog", "duck", "owl", "squirrel", "turtle", "hedgehog", "fox", "bear", "cat", "dog"]
ENDS = ["From that day on, {N} and {F} were best friends.", "{N} went home with a big smile.", "It was the best day of {P} life.", "That night {N} slept very well.", "{N} never forgot that day.", "And they all lived happily ever after.", "{N} was proud and happy.",
        "{N} told everyone at home about it, and they all smiled."]

OPENINGS = ["Once upon a time there was {A} who lived {L}.", "Once upon a time, {L}, there lived {A}.", "There once was {A} who lived {L}.", "{L2} there lived {A}."]
NAMED = ["{P2} name was {N}.", "Everyone called {O} {N}."]
TRAIT = ["{N} was very {T}.", "{N} was {T} and loved to play.", "{N} was {T} and liked to help others.", "Everyone liked {N}, because {S} was so {T}."]

# each plot: a list of sentences, each a list of wordings. {X} is the thing with its article at first, {x} afterwards
PLOTS = [
    [["{N} had {X}.", "{N} loved {X2} more than anything."], ["{W} {N} could not find the {x}.", "{W} the {x} was gone."], ["{S2} looked under the bed and behind the door, but it was not there.", "{S2} looked everywhere, but the {x} was nowhere to be seen."],
     ["{N} was very sad.", "{N} sat down and cried."], ["Then {f} came by and asked, \"Why are you sad?\"", "{F2} saw this and asked, \"What is the matter?\""], ["\"I have lost my {x},\" said {N}.", "\"My {x} is gone,\" said {N}."],
     ["\"I will help you,\" said {F}.", "\"Do not worry, we will look together,\" said {F}."], ["They walked {G} and looked behind every tree.", "Together they went {G}."], ["There, in the grass, lay the {x}!", "At last they saw the {x} behind a stone."], ["\"Thank you!\" said {N} and hugged {F}.", "{N} was so happy that {S} danced."]],
    [["{W} {N} went {G}.", "{W} {N} walked {G}."], ["There {S} found {X}.", "There, under a tree, {S} saw {X}."], ["\"What a nice {x}!\" said {N}.", "\"I wonder whose {x} this is,\" said {N}."], ["{S2} wanted to keep it, but {S} knew that someone might miss it.", "{S2} looked around, but nobody was there."],
     ["So {N} asked everyone, \"Is this your {x}?\"", "So {S} went from door to door and asked about the {x}."], ["At last {N} met {f}.", "Then {f} came running."], ["\"That is my {x}! I looked for it all day,\" said {F}.", "\"You found my {x}!\" said {F} with joy."],
     ["{N} gave it back at once.", "{N} smiled and gave the {x} back."], ["\"You are so honest. Let us play together,\" said {F}.", "\"Thank you. You are a true friend,\" said {F}."]],
    [["{N} wanted {X} very much.", "More than anything, {N} wished for {X}."], ["But {S} had no money to buy one.", "But nobody could give {O} one."], ["\"Then I will make a {x} myself,\" said {N}.", "\"I can build a {x} with my own hands,\" said {N}."], ["{W} {S} began to work.", "{S2} took wood, paper and glue and began."],
     ["At first it did not go well and everything fell apart.", "The first try broke, and the second try broke too."], ["\"Do not give up,\" said {f}.", "{F2} saw it and said, \"Try once more. I will hold it for you.\""], ["So {N} tried again, slowly and with care.", "{N} took a deep breath and tried again."],
     ["In the evening the {x} was ready.", "After three days the {x} was done."], ["It was the best {x} in the whole land.", "Everyone came to see the {x}."]],
    [["{N} had {X}, and {F0} had nothing to play with.", "{N} got {X} as a present."], ["{W} {F} asked, \"May I play with your {x}?\"", "{W} {F} came and looked at the {x}."], ["\"No, it is mine!\" said {N}.", "\"Go away, this is my {x},\" said {N}."], ["{F3} walked away with a sad face.", "{F3} said nothing and went home."],
     ["Now {N} was all alone, and playing alone was no fun.", "{N} played alone, but soon {S} was bored."], ["\"I was not nice,\" thought {N}.", "\"It is better to share,\" thought {N}."], ["{S2} ran after {F} and said, \"I am sorry. Please play with me.\"", "{S2} went to {F} and said, \"I am sorry. The {x} is for both of us.\""],
     ["They played with the {x} until the sun went down.", "They laughed and played all day."]],
    [["{N} had {X}.", "{N} was proud of {X2}."], ["{W} there was a big storm.", "{W} dark clouds came and the wind began to blow."], ["The wind took the {x} and carried it away.", "The wind was so strong that the {x} flew away."], ["\"Oh no, my {x}!\" cried {N}.", "\"Stop, come back!\" {N} called after the {x}."],
     ["{N} ran {G}, but the wind was faster.", "{S2} ran and ran, all the way {G2}."], ["High up on a branch hung the {x}.", "The {x} had landed on top of a tall tree."], ["{f2} who lived in the tree said, \"Wait, I will get it for you.\"", "{f2} heard {N} and climbed up the tree."],
     ["Soon the {x} was back in {P} hands.", "Carefully {F} brought the {x} down."], ["\"You are very brave,\" said {N}.", "\"Thank you, my friend,\" said {N}."]],
    [["{W} {N} took {X3} and went {G}.", "{W} {N} wanted to go on a trip with {X3}."], ["On the way {S} met {f}.", "After a while {S} saw {f} by the road."], ["\"May I come with you?\" asked {F}.", "\"Where are you going?\" asked {F}. \"Can I come too?\""], ["\"Of course,\" said {N}. \"It is more fun with two.\"", "\"Yes, come along,\" said {N}."],
     ["They sang a song and looked at the clouds.", "They told each other jokes and laughed a lot."], ["Then it got dark and they did not know the way home.", "But then they lost their way."], ["\"I am afraid,\" said {F}.", "\"What shall we do now?\" asked {F}."], ["\"Look, there is a light,\" said {N}. \"Let us follow it.\"", "{N} had an idea. \"We can follow the stars,\" {S} said."],
     ["Step by step they found the way back.", "Soon they could see the lights of home."]],
    [["It was the birthday of {F0}, and {N} had no present.", "Tomorrow was the birthday of {F0}."], ["\"What can I give?\" thought {N}.", "{N} thought about a present for a long time."], ["Then {S} had an idea. \"{F3} would like {X}!\"", "\"I know! I will look for {X},\" {S} said."], ["{W} {N} went {G} to find one.", "{S2} went to the market with all {P} coins."],
     ["An old woman sold a {x}, but it cost ten coins, and {N} had only five.", "There was only one {x} left, and it was too expensive."], ["\"Help me to carry my bags, and it is yours,\" said the woman who sold it.", "\"If you sweep my shop, you can have it,\" said the woman who sold it."], ["{N} worked hard until the evening.", "{N} was happy to help."],
     ["At the party {F} opened the box and found the {x}.", "The next day {N} gave the {x} to {F}."], ["\"This is the best present of all!\" said {F}.", "\"A {x}! Thank you so much!\" said {F}."]],
    [["{N} was afraid of the dark.", "Every night {N} was afraid."], ["{W} {S} heard a strange noise outside.", "One night something made a noise at the window."], ["Knock, knock, knock!", "It went tap, tap, tap."], ["\"Is it a monster?\" thought {N}.", "{N} hid under the blanket."], ["Then {S} took a lamp and looked out.", "But {N} was also {T}, so {S} opened the door."],
     ["There was no monster, only {f} with {X}.", "It was only {f}, who carried {X}."], ["\"I am sorry,\" said {F}. \"The {x} is so heavy that I dropped it.\"", "\"I only wanted to bring you this {x},\" said {F}."], ["{N} laughed and was not afraid any more.", "They both laughed and drank warm milk."]],
    [["{N} wanted to learn how to swim.", "{N} wanted to learn how to sing.", "{N} wanted to learn how to dance.", "{N} wanted to learn how to paint."], ["But {S} thought that it was too hard.", "But the others laughed at {O}."], ["{W} {S} met {f} {H}.", "{W} {f} saw {O} {H}."], ["\"I can teach you,\" said {F}, \"if you give me your {x}.\"", "\"I will show you how, and you show me your {x},\" said {F}."],
     ["\"That is fair,\" said {N}.", "{N} agreed at once."], ["They practiced every day.", "Day after day they practiced, in sun and in rain."], ["At first it was hard, but {N} did not give up.", "{N} made many mistakes, but each day it went a little better."], ["After a week {S} could do it all alone.", "Then, one day, it worked!"],
     ["\"Now you are better than I am,\" said {F} and gave the {x} back.", "\"Well done!\" said {F}, and they both looked at the {x} and smiled."]],
    [["In the garden {N} found {X}.", "{W} {N} found {X} in the garden."], ["It was not a common {x}. It could speak!", "\"Please help me,\" said the {x}."], ["\"Who are you?\" asked {N}.", "{N} was surprised. \"Can you speak?\" {S} asked."], ["\"I am a magic {x}. I can give you one wish,\" it said.", "\"Yes, I am a magic {x}, and you may wish for one thing,\" it said."],
     ["{N} thought of toys and of cake.", "{N} thought for a long time."], ["But then {S} saw {f} who looked hungry and cold.", "But then {S} saw {f} who was all alone."], ["\"I wish that {F} is never hungry again,\" said {N}.", "\"I wish for a warm home for {F},\" said {N}."], ["The {x} began to glow, and the wish came true.", "There was a bright light, and it was done."],
     ["\"You have a good heart,\" said the {x}.", "\"That was a good wish,\" said the {x}."]],
    [["{N} and {F0} wanted to have a race.", "{W} {N} and {F0} had a race."], ["\"The winner gets this {x},\" said the old owl.", "The winner should get {X}."], ["One, two, three, go!", "They ran as fast as they could."], ["{N} was first, but then {S} heard a cry.", "{N} was fast, but suddenly {S} heard someone call."], ["{F3} had fallen and could not get up.", "{F3} had hurt a leg."],
     ["{N} stopped and ran back.", "{N} did not think about the {x} any more and turned around."], ["\"Take my hand,\" said {N}. \"We will walk together.\"", "\"Come, lean on me,\" said {N}."], ["Slowly they came to the end, side by side.", "They crossed the line together."], ["\"You are both winners,\" said the owl and gave them the {x}.", "Everyone clapped, and they shared the {x}."]],
    [["{N} planted a seed in the garden.", "{W} {N} put a tiny seed into the ground."], ["Every day {S} gave it water.", "{S2} watered it each morning and waited."], ["But nothing happened, and {N} was sad.", "For many days nothing could be seen."], ["\"You must be patient,\" said {f}.", "{F2} said, \"Good things take time.\""], ["So {N} waited and looked after it.", "{N} waited one more week."],
     ["{W} there was a green leaf, and soon a big plant.", "Then a small green plant came out of the ground and grew and grew."], ["And under the leaves {N} found {X}!", "At the top of the plant hung {X}!"], ["\"Look, a {x}!\" said {N} to {F}.", "\"I have never seen such a {x},\" said {F}."], ["They were both very happy.", "They laughed and danced around it."]],
]


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(text):
    return text[0].upper() + text[1:]


def write(r, hero=None, thing=None, name=None, friend=None):
    """The story of `hero` (an animal or a person, without article) and `thing`; all that is not given is drawn."""
    kind = hero or r.choice(w.ANIMALS + w.HEROES + ["girl", "boy"] * 12)
    girls = {"girl", "queen", "princess", "hen", "cow"}
    boys = {"boy", "king", "prince", "knight", "wizard", "pirate", "clown"}
    pronouns = SHE if kind in girls else HE if kind in boys else r.choice([HE, SHE])
    name = name or r.choice(GIRLS if pronouns is SHE else BOYS)
    thing = thing or r.choice(w.THINGS)
    friend = friend or r.choice([f for f in FRIENDS if f != kind])
    adjective = r.choice(w.ADJECTIVES)
    place = r.choice(PLACES)
    of = r.choice([friend, "little " + friend, "old " + friend])
    described = r.choice([thing, f"{adjective} {thing}", f"{r.choice(w.COLOURS)} {thing}"])
    go = r.choice(GOES)
    slots = {
        "A": article(r.choice(["", "", "little ", "young "]) + kind), "L": place, "L2": capital(place), "N": name, "S": pronouns[0], "S2": capital(pronouns[0]), "O": pronouns[1], "P": pronouns[2], "P2": capital(pronouns[2]),
        "T": r.choice(TRAITS), "X": article(described), "X2": f"{pronouns[2]} {described}", "X3": f"{pronouns[2]} {thing}", "x": thing, "f": article(of), "f2": capital(article(of)), "F": f"the {friend}", "F2": capital(article(of)),
        "F0": f"{pronouns[2]} friend, the {friend}", "F3": f"The {friend}", "G": go, "G2": go, "W": r.choice(WEATHERS), "H": r.choice(["at the lake", "by the river", "in the park", "in the woods"]),
    }
    plot = r.choice(PLOTS)
    uses_weather = False
    sentences = [r.choice(OPENINGS), r.choice(NAMED)] + ([r.choice(TRAIT)] if r.random() < 0.8 else [])
    for wordings in plot:
        sentence = r.choice(wordings)
        if "{W}" in sentence:
            slots["W"] = r.choice([x for x in WEATHERS if x != slots["W"]]) if uses_weather else slots["W"]
            uses_weather = True
        sentences.append(sentence)
    told = []
    for sentence in sentences:
        told.append(capital(sentence.format(**slots)))
    end = r.choice(ENDS).format(**slots)
    broken = len(sentences) // 2 if r.random() < 0.3 else 0
    text = " ".join(told + [end])
    return " ".join(told[:broken]) + "\n" + " ".join(told[broken:] + [end]) if broken else text


ASKED = (["tell me a story", "tell me a short story", "write a story", "can you tell me a story", "i want to hear a story", "please tell me a story", "write a short story", "could you write a story", "do you know a story", "i would like a story",
          "tell a story", "make up a story", "read me a story", "give me a story", "a bedtime story please", "tell me a bedtime story", "let us have a story"],
         ["please write me a little story", "i would love to hear a story", "can i have a story"])
ABOUT = ([" about {t}", " about {t}", " about {t}", " with {t} in it", " with {t}", ". It should be about {t}"], [" where {t} is important"])


def told(s):
    """(request, story)"""
    r = s.r
    hero = thing = name = friend = None
    topic = ""
    if r.random() < 0.8:
        about = r.choice(["animal", "animal", "thing", "thing", "person", "both", "named", "word"])
        if about == "animal":
            hero = r.choice(w.ANIMALS)
            topic = article(hero)
        elif about == "person":
            hero = r.choice(w.HEROES)
            topic = article(hero)
        elif about == "thing":
            thing = r.choice(w.THINGS)
            topic = article(thing)
        elif about == "word":  # a thing whose name it may never have seen
            thing = s.word()
            topic = article(thing)
        elif about == "both":
            hero, thing = r.choice(w.ANIMALS + w.HEROES), r.choice(w.THINGS)
            topic = f"{article(hero)} and {article(thing)}"
        else:
            hero, name = r.choice(w.ANIMALS + ["girl", "boy"]), s.first_name()
            topic = f"{article(hero)} {r.choice(['named', 'called'])} {name}"
    asked = s.pick(ASKED)
    return asked + (s.pick(ABOUT).format(t=topic) if topic else ""), write(r, hero, thing, name, friend)
