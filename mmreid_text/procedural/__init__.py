"""The embedded default data: drawn pedestrians with captions whose wrong words are known."""

from mmreid_text.procedural.attributes import ATTRIBUTES
from mmreid_text.procedural.domains import DOMAINS, Domain, World
from mmreid_text.procedural.sentences import Caption

__all__ = ["ATTRIBUTES", "DOMAINS", "Caption", "Domain", "World"]
