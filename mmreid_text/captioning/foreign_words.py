"""Function words of English and of languages that captioners fall into; no word of the others is an English one."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGLISH = _words(
    "a an and are as at by for from has have he her his in is it its of on or she that the their there they this to "
    "was wearing wears which who with"
)
FOREIGN: dict[str, frozenset[str]] = {
    "Spanish": _words("el la los las una un unos con y que del lleva viste está es en de su también mujer hombre"),
    "French": _words("le la les une un des du avec et est dans porte qui sur elle il sa ses femme homme vêtue vêtu"),
    "German": _words("der und ein eine einen einem mit ist trägt das dem sie er auf von seine ihre frau mann"),
    "Italian": _words("il la gli una un con di e è che indossa sono sulla nella suo sua donna uomo anche"),
    "Portuguese": _words("o os uma um com e é da dos das está veste mulher homem seu sua também"),
    "Dutch": _words("de het een en draagt hij zij op zijn haar vrouw heeft ook"),
    "Polish": _words("w z na jest ma się kobieta mężczyzna oraz ubrana ubrany nosi"),
    "Indonesian": _words("yang dan dengan di ini itu pria wanita memakai mengenakan berwarna sebuah"),
    "Vietnamese": _words("một người mặc và với màu đang có của áo quần"),
    "Turkish": _words("bir ve ile giyiyor olan erkek üzerinde siyah beyaz var"),
}
