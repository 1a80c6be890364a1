"""Which words of person descriptions fill the slots of a template, and which only tell of a slot's looks."""

from mmreid_text.evaluation.word_classes import LEXICON


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Slot -> nouns that can be the head of its filling; plurals need no entry of their own.
HEADS: dict[str, frozenset[str]] = {
    "person": _words("""
        adult baby boy child children couple cyclist female gentleman girl grandfather grandmother guard guy human
        individual kid lady male man men pedestrian people person runner someone student teenager toddler woman women
        worker youth
    """),
    "footwear": _words("""
        ballerina boot brogue cleat clog croc derby espadrille flat flats flip-flop flop footgear footwear galoshes
        gumboot heel high-top lace-up loafer mary-jane moccasin mule oxford plimsoll pump sandal shoe shoelace
        slingback slip-on slipper sneaker sock sole stiletto stocking trainer wedge wellington
    """),
    "hair": _words("""
        afro bang bangs beard bedhead bob braid bun comb-over cornrow crewcut curl dreadlock fringe goatee hair
        haircut hairdo hairstyle knot mane mohawk moustache mullet mustache pigtail pixie plait ponytail quiff
        sideburn stubble tail topknot tress undercut updo wig
    """),
    "accessory": _words("""
        accessory anklet armband badge bandana barrette beanie belt beret boater bonnet bow bowtie bracelet brooch cap
        choker cravat cufflink earbud earmuff earphone earpiece earring eyeglass eyewear fedora glasses glove goggle
        hairband hairpin handkerchief hat headband headgear headphone headscarf headwear helmet hijab jewellery
        jewelry lanyard mask monocle neckerchief necklace neckscarf necktie pendant ribbon ring sash scarf scarves
        scrunchie shawl spectacles sunglasses suspender tiara tie turban veil visor watch wristband wristwatch
    """),
    "belongings": _words("""
        backpack bag baggage banner basket baton bicycle bike book bottle bouquet box briefcase broom bucket bundle
        cane carrier cart carton case cell cellphone clutch container cooler crate crutch cup device drink duffel
        envelope flag flask folder football guitar handbag hoop item jug kite knapsack ladder laptop leash locker
        luggage magazine map mobile motorcycle mug newspaper notebook pack package paper parcel phone pouch pram purse
        pushchair racket racquet rucksack sack satchel scooter skateboard stroller suitcase tablet tote toy tray
        trolley tumbler umbrella wallet wheelchair
    """),
    "clothing": _words("""
        anorak apron attire bathrobe bikini blazer blouse bodysuit bomber bottoms bra breeches caftan cagoule camisole
        cape capri cardigan cargo chinos cloak clothes clothing coat collar corset costume cuff culottes denims dress
        dungarees ensemble fleece frock garb garment gilet gown halter hem hood hoodie hotpants jacket jean jeans
        jeggings jersey jodhpurs jogger jumper jumpsuit kilt kimono knitwear lapel layer legging leggings leotard
        lingerie lining mackintosh miniskirt neckline outerwear outfit overalls overcoat overshirt pajamas pant pants
        parka peacoat pinafore playsuit pocket polo poncho pullover pyjamas raincoat robe romper sari sarong scrubs
        shirt shorts shrug singlet skirt slack slacks sleeve sportswear strap suit suspenders sweater sweatpants
        sweatshirt sweatsuit swimsuit swimwear tabard tank tee top trackpants tracksuit trench trouser trousers trunks
        tshirt tunic turtleneck tutu tuxedo undergarment undershirt uniform vest waders waistband waistcoat
        windbreaker workwear zip zipper
    """),
}
#: Words that tell of looks: colours, patterns, materials, cuts, sizes, ages.
LOOKS: frozenset[str] = LEXICON["colour"] | _words("""
    aged animal athletic baggy bald blank brimmed build bulky bushy button button-up buttoned casual check checked
    checkered clean closed cloth coffee color colored colour coloured cotton cropped curly cut deep denim design dot
    dotted dress dyed elderly elegant embroidered fabric faded fair fashionable fitted fitting floral flower flowing
    formal frizzy full fur furry graphic heavy high high-top hooded jet knee-length knit knitted lace large leather
    lemon length letter lettering light line lined logo long long-sleeve long-sleeved longer loose loose-fitting low
    low-top matching maxi medium medium-length mid mid-length middle-aged mini multi navy nylon one-piece oversized
    padded pair pattern patterned peaked pinstripe plaid plain pleated polka pony print printed puffer puffy quilted
    ripped rolled round rust shade shaggy shaved sheer shiny shirt short short-sleeve short-sleeved shoulder-length
    silk simple skinny sleek sleeved sleeveless slim small smart smooth soft sole solid spiky sporty spotted straight
    strip stripe striped stripy style stylish suede tailored tall tangerine tartan text thick thin tie-dye tight
    tight-fitting tone top trench two-tone unbuttoned v-neck velvet waist-length wavy wide wool woolen woollen writing
    young zip-up zipped
""")
#: Words that tell of looks only before another of these words: an ankle boot, but a hand on the ankle.
LOOKS_BEFORE: frozenset[str] = _words("""
    ankle ball baseball big bike block business crossbody dress grass gym hand knee luggage messenger number open
    rolling running safety school shopping shoulder sport sports sun thigh waist work
""")
#: Verbs (without endings) and nouns of talk about pictures: the wording of a sentence beside its function words.
WORDING: frozenset[str] = _words("""
    accent accompany add adorn apart appear approach attention begin belong board bottom brief bring browse bypass
    came capture carrie carry catch caught characterise characterize check choose chosen clad clothe come comer
    commute complement complete consist cover cross customer define depict describe description detail display
    distinguish don drag drape draw enter equip extra face fall feature feel figure find finish first follow found
    frame gather get glance go goe grab grasp hang held hold identifie identify image imagine include inspection jump
    keep kept last lean leave left let lie lift list look made main make match meet miss move next note notice observe
    once pair pass passenger passer passer-by photograph picture place point portray pose position present pull push
    put reach recognisable recognise recognizable recognize remain resemble rest reveal ride right round run rush said
    saw scene search second see seen set shod shop shopper show shown sit sling slung smile speak sport spot stand
    start stay step stood stop stride stroll style subject take taken talk tell think third tie tied today told touch
    travel traveler traveller tuck turn view viewer visible visitor wait walk wander watch wear went wore worn worth
    wrap
""")
#: Words that tell a person's gender.
GENDER: frozenset[str] = _words("""
    boy female gentleman girl guy he her hers him his lady male man men she woman women
""")
#: Phrases that read as one word.
JOINED = {"bald head": "hair", "shaved head": "hair", "head covering": "hat"}


def _slot_words() -> dict[str, str]:
    known = dict.fromkeys(LOOKS_BEFORE, "before") | dict.fromkeys(LOOKS, "look")
    for slot, words in HEADS.items():
        known |= dict.fromkeys(words, slot)
    return known


_SLOT_OF = _slot_words()


def is_wording(word: str) -> bool:
    """Whether a lower-case word belongs to the sentence rather than to what it describes.

    >>> [is_wording(word) for word in ("the", "carrying", "street", "messy")]
    [True, True, True, False]
    """
    if word in LEXICON["function"]:
        return True
    stems = {word, word.removesuffix("s"), word.removesuffix("d"), word.removesuffix("ed"), word.removesuffix("ing")}
    stems |= {word.removesuffix("ing") + "e", word[:-4] if word.endswith("ing") else word}
    return any(stem in WORDING or stem in LEXICON["noun"] for stem in stems)


def slot_of(word: str) -> str | None:
    """What a lower-case word says of a person.

    Returns:
        A slot's name if it can be the head of its filling, ``look`` if it tells of looks, ``before`` if it does so
        before another such word, None otherwise.

    >>> [slot_of(word) for word in ("jackets", "knee-length", "sneakers", "wears")]
    ['clothing', 'look', 'footwear', None]
    """
    for stem in (word, word.removesuffix("s"), word.removesuffix("es")):
        if stem in _SLOT_OF:
            return _SLOT_OF[stem]
    parts = word.split("-")
    if len(parts) > 1:
        known = [slot_of(part) for part in parts]
        if any(known):
            return known[-1] or "look"
    return None
