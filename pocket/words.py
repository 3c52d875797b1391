"""Lists of words that values are drawn from, and the shapes of made-up names. All lists are open: random words stand beside them."""

ANIMALS = ("cat dog fox bear mouse bird rabbit duck frog horse lion owl fish turtle monkey tiger wolf deer goat sheep pig cow hen goose swan crow eagle parrot penguin seal whale dolphin shark crab snail spider bee ant "
           "butterfly ladybug worm lizard snake camel elephant giraffe zebra panda koala kangaroo hedgehog squirrel badger beaver otter mole hamster puppy kitten pony donkey llama moose robin sparrow dragon unicorn dinosaur").split()
HEROES = "girl boy farmer baker painter sailor teacher doctor king queen prince princess knight wizard pirate robot gardener fisherman clown singer cook driver shepherd tailor giant".split()
THINGS = ("ball kite boat apple book hat box key lamp flower stone drum cake tree balloon chair cup coat bag bell bike train car truck wagon sled ship plane rocket map coin ring crown shell feather button basket bottle "
          "blanket pillow scarf shoe boot glove umbrella clock mirror candle lantern flute guitar piano trumpet whistle puzzle doll robot kettle spoon bowl plate pot pan ladder rope bucket shovel hammer brush pencil pen notebook "
          "letter picture painting camera telescope compass magnet cookie pie muffin pumpkin carrot tomato seed leaf star cloud rainbow snowman sandcastle treehouse tent bridge").split()
COLOURS = "red blue green yellow black white brown pink grey purple orange golden silver turquoise beige violet crimson navy".split()
ADJECTIVES = "small big old new shiny soft little wooden round tiny pretty strange heavy broken clean bright warm cold tall long".split()
FOODS = ("soup bread cheese rice pasta apples honey fish cake noodles pizza tea olives mango curry sushi tacos salad grapes lentils beans mushrooms chocolate waffles dumplings cherries yogurt porridge pancakes popcorn peanuts "
         "plums pears coffee lemonade oranges spinach potatoes tofu hummus falafel kimchi paella risotto strawberries carrots walnuts figs dates croissants bagels burgers sandwiches steak chicken shrimp ramen pickles corn peas").split()
JOBS = ("baker teacher doctor farmer painter driver singer cook nurse writer pilot plumber carpenter lawyer dentist engineer librarian gardener florist tailor waiter mechanic electrician scientist journalist actor dancer "
        "sailor firefighter accountant architect photographer translator chemist biologist butcher barber fisherman programmer designer judge surgeon vet bookseller musician potter miner optician welder geologist").split()
HOBBIES = "chess painting swimming reading cycling hiking dancing gardening fishing cooking singing running tennis football knitting yoga sailing climbing skating surfing pottery photography drawing birdwatching archery judo karate rowing".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
EVENTS = ("meeting lunch dinner party lesson dentist concert walk call picnic training breakfast|doctor appointment|piano lesson|team meeting|book club|yoga class|haircut|job interview|birthday party|swimming|football match|"
          "movie night|parent meeting|project review|coffee|choir|exam|wedding|barbecue|language course|dance class|gym|flight|interview|workshop|standup|brunch").replace(" ", "|", 11).split("|")
SKY = "sunny cloudy rainy windy snowy foggy stormy clear".split()
LANGUAGES = "French German Spanish Italian Japanese Polish Arabic Swedish Korean Turkish Dutch Greek Hindi Swahili Finnish Czech Portuguese Danish".split()
OBJECTS = ("laptop phone table sofa desk jacket backpack headphones watch printer keyboard monitor tablet toaster bicycle helmet tent wallet mug blender vacuum fridge speaker sunglasses sweater socks jeans notebook lamp mattress "
           "drill microscope violin skateboard charger router carpet bookshelf raincoat thermos").split()
NOUNS = ("hobby nickname brother sister mother father teacher boss neighbor cousin uncle aunt dog cat pet car bike street house number room floor desk color food fruit drink sport team song book movie game country school class "
         "shop company password size weight height price password status owner color brand model team captain doctor partner birthday instrument language flower animal season subject dish dessert toy planet leader capital mascot").split()

PEOPLE = ("Anna Tom Maria Peter Lena Ali Sara Ben Julia Omar Emma Paul Nina Leo Mia Jack Lucy Sam Eva Max Priya Dmitri Chen Wei Yuki Hiroshi Amara Kwame Fatima Hassan Ingrid Lars Sofia Diego Carlos Lucia Mateo Valentina Aisha "
          "Tariq Leila Farid Ravi Anjali Deepak Sunita Arjun Meera Kenji Sakura Haruto Aiko Minjun Jiwoo Soojin Nguyen Linh Thanh Bao Olga Ivan Natasha Sergei Svetlana Boris Katarzyna Piotr Agnieszka Tomasz Jan Marek Zofia Pavel "
          "Jana Milan Zoltan Ildiko Istvan Elif Mehmet Ayse Emre Yusuf Zeynep Giulia Marco Lorenzo Chiara Francesca Luca Pierre Camille Amelie Jacques Claire Antoine Hans Greta Klaus Heidi Wolfgang Bjorn Astrid Freya Sven Erik "
          "Olaf Saoirse Liam Niamh Aoife Sean Rhys Gwen Hamish Fiona Angus Kofi Ama Chidi Ngozi Adaeze Emeka Zanele Thabo Sipho Naledi Wanjiru Kamau Achieng Otieno Tigist Dawit Makena Jabari Imani Malik Zuri Rosa Pedro Joao Ana "
          "Beatriz Rafael Gabriela Thiago Camila Santiago Ximena Alejandro Itzel Noah Olivia Liam Ethan Grace Henry Alice George Daniel David Laura Karen Kevin Brian Susan Linda Robert James John Mary Sarah Kate Helen Rachel Hannah "
          "Esther Miriam Yosef Noa Avi Tamar Ayelet Nadia Samir Rania Karim Layla Khalid Salma Bilal Parvati Lakshmi Vikram Rohan Kavya Dev Isha Tenzin Pema Dorji Batbayar Nomin Aroha Tane Kaia Mele Sione Keanu Malia Oscar Felix "
          "Hugo Theo Otto Emil Ida Alma Vera Clara Ruth Edith Walter Arthur Simon Jonas Elias Mikko Aino Juhani Sanna Eero Katri Andrei Ioana Mihai Elena Radu Dimitra Nikos Yannis Eleni Kostas Stavros Marta Jordi Pau Nuria Iker").split()
SURNAMES = ("Smith Jones Patel Kim Lee Nguyen Garcia Silva Santos Rossi Ferrari Muller Schmidt Weber Novak Kowalski Ivanov Petrov Hansen Larsen Virtanen Okafor Mensah Mwangi Dlamini Haddad Nasser Yilmaz Demir Sharma Singh Gupta "
            "Tanaka Sato Suzuki Park Choi Wang Zhang Liu Chen Dubois Moreau Lefevre Murphy Byrne Campbell Fraser Brown Taylor Baker Carter Young Lopez Morales Castro Fernandez Costa Almeida Popescu Papadopoulos Cohen Levi").split()
CITIES = ("Paris London Berlin Rome Madrid Tokyo Oslo Vienna Cairo Lima Boston Dublin Prague Lisbon Athens Chicago Helsinki Warsaw Budapest Istanbul Nairobi Lagos Accra Tunis Casablanca Mumbai Delhi Chennai Kolkata Seoul Busan "
          "Osaka Kyoto Shanghai Beijing Hanoi Bangkok Jakarta Manila Sydney Melbourne Perth Auckland Wellington Toronto Montreal Vancouver Ottawa Denver Seattle Portland Houston Dallas Miami Atlanta Detroit Phoenix Austin Nashville "
          "Havana Bogota Quito Santiago Caracas Brasilia Recife Montevideo Munich Hamburg Cologne Leipzig Zurich Geneva Basel Milan Naples Turin Venice Florence Genoa Lyon Marseille Bordeaux Lille Nice Porto Seville Valencia Bilbao "
          "Granada Bruges Ghent Antwerp Rotterdam Utrecht Copenhagen Aarhus Bergen Stockholm Uppsala Malmo Turku Tampere Riga Vilnius Tallinn Minsk Kyiv Odessa Moscow Kazan Tbilisi Yerevan Baku Tehran Baghdad Amman Beirut Damascus "
          "Doha Dubai Muscat Karachi Lahore Dhaka Kathmandu Colombo Reykjavik Edinburgh Glasgow Cardiff Belfast Cork Galway Leeds Bristol Oxford York Krakow Gdansk Brno Graz Salzburg Zagreb Split Belgrade Sofia Bucharest").split()
CITIES += ["New York", "San Francisco", "Los Angeles", "Buenos Aires", "Cape Town", "Hong Kong", "Kuala Lumpur", "Rio de Janeiro", "Mexico City", "Tel Aviv", "Abu Dhabi", "Addis Ababa", "Las Vegas", "New Delhi", "Santa Fe", "San Diego"]
COMPANIES = "Works Labs Foods Motors Systems Books Bank Studio Garden Energy Tools Airlines Toys Media".split()

SYLLABLES = "ba be bi bo bu da de di do du fa fe fi fo ga go ha he hi ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we za ze zo".split()
ONSETS = "b br c ch cl d dr f fl g gl gr h j k kh kr l m n p pr qu r s sch sh sk sl sp st t th tr v w y z zh".split()
VOWELS = "a e i o u a e i o ai ea ee ie ou oo y au".split()
CODAS = ["", "", "", "n", "r", "l", "s", "m", "x", "k", "t", "nd", "rt", "ng", "sh", "st", "ck", "lm", "rg", "ph"]
ENDINGS = ["", "", "", "a", "o", "i", "ton", "burg", "ville", "stad", "ford", "ina", "ov", "ski", "ez", "us", "mir", "wen", "eth"]
