"""The metrics that come with archc; importing this registers them."""

from archc.evaluate.against import Against
from archc.evaluate.baseline import NGram
from archc.evaluate.drafts import Drafts
from archc.evaluate.harness import Harness
from archc.evaluate.perplexity import Perplexity
from archc.evaluate.recall import Recall

__all__ = ["Against", "Drafts", "Harness", "NGram", "Perplexity", "Recall"]
