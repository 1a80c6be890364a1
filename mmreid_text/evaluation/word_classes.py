"""Which words of person descriptions are nouns, colours or function words; for the report of what gets masked."""

PUNCTUATION = "punctuation"
OTHER = "other"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# In order: a word belongs to the first class that holds it. Plurals need no entry of their own.
LEXICON: dict[str, frozenset[str]] = {
    "colour": _words("""
        aqua amber apricot auburn azure beige black blond blonde blue bronze brown brunette burgundy camel caramel
        charcoal chestnut chocolate colour color coloured colored colourful colorful copper coral cream crimson cyan
        dark denim ebony emerald fuchsia ginger gold golden gray green grey indigo ivory jade khaki lavender light
        lilac lime magenta mahogany maroon mauve mint multicolored multicoloured mustard navy neon ochre olive orange
        pale peach pearl pink plum purple red rose rosy ruby rust salmon sand scarlet silver tan taupe teal turquoise
        vermilion violet white wine yellow bright dull pastel
    """),
    "noun": _words("""
        adult baby boy child children female gentleman girl guy individual kid lady male man men pedestrian people
        person student teenager toddler woman women youth
        ankle arm back beard body build calf chest ear elbow eye eyebrow face finger foot feet forehead goatee hair
        hand head heel hip knee leg lip mouth moustache mustache neck nose shoulder side skin stomach tattoo thigh toe
        torso waist wrist
        bang bangs bob braid bun curl fringe haircut hairstyle ponytail pigtail
        apron attire belt blazer blouse boot bottom bow bowtie bra bracelet button cap capri cardigan cargo chinos
        cloak cloth clothes clothing coat coats collar costume cuff cuffs dress dungarees earphone earring fabric
        flat flop footwear fleece garment glasses glove gown handkerchief hat headband headphone headscarf heel helmet
        hem hijab hood hoodie jacket jean jeans jersey jumper jumpsuit kilt knapsack lace lapel leather legging
        leggings lining loafer mask miniskirt moccasin necklace neckline outfit overalls overcoat pajamas pant pants
        parka pattern plimsoll pocket polo poncho pullover pump robe romper sandal sash scarf scarves shawl shirt shoe
        shoelace short shorts skirt slack slacks sleeve slipper slippers sneaker sock sole spectacles stiletto
        stocking strap suit sunglasses suspenders sweater sweatpants sweatshirt sweatsuit swimsuit tank tee tie tights
        top trainer tracksuit trench trouser trousers trunks tshirt tunic turtleneck tuxedo umbrella uniform vest
        visor waistband waistcoat watch windbreaker wig zip zipper
        accessory backpack bag baggage basket bicycle bike bottle box briefcase camera can car carrier case cart cell
        cellphone clutch coffee crossbody cup device drink duffel file folder handbag item jug laptop luggage magazine
        messenger mobile motorcycle newspaper notebook object paper phone pack package parcel pouch purse rucksack
        sack satchel scooter shopping skateboard stroller suitcase tablet tote tray trolley wallet wheelchair
        check design dot flower graphic image letter line logo number pattern picture pinstripe plaid print strip
        stripe text word writing
        background building camera corridor crosswalk direction door fence floor grass ground image ledge path
        pavement photo picture pose road shadow sidewalk sign stair step street tile tree view wall way
    """),
    "function": _words("""
        a about above across after against all along also although am among an and another any appears are around as
        at be because been before behind being below beneath beside besides between both but by can could did do does
        down during each either else etc every few for from had has have having he her hers herself him himself his
        how i if in inside into is it its itself just like may me might more most much my near nor not of off on onto
        or other our out outside over own per perhaps quite rather s seems she should since so some such t than that
        the their theirs them themselves then there these they this those through throughout to too toward towards
        under underneath until up upon upper lower us very was we were what when where which while who whom whose why
        will with within without would you your 's 't 're 've 'm 'll 'd
    """),
}
CLASSES = (*LEXICON, PUNCTUATION, OTHER)


def word_class(word: str) -> str:
    """One of :data:`CLASSES` for a lower-case word.

    >>> [word_class(word) for word in ("jackets", "red", "the", "!?", "striped")]
    ['noun', 'colour', 'function', 'punctuation', 'other']
    """
    if not any(character.isalnum() for character in word):
        return PUNCTUATION
    for stem in (word, word.removesuffix("s"), word.removesuffix("es")):
        for name, words in LEXICON.items():
            if stem in words:
                return name
    return OTHER
