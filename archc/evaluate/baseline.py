"""The n-gram baseline as a metric."""

from __future__ import annotations

from archc.evaluate.metric import Figure, Metric, Setting, metric
from archc.evaluate.ngram import NGramModel
from archc.kernels.errors import ArchcError


@metric("ngram")
class NGram(Metric):
    """Bits a byte of an n-gram model with modified Kneser-Ney smoothing, learnt from other text: what to beat."""

    order: int = 5
    wants_model = False

    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """Bits a byte of the texts."""
        if not on.learnt:
            raise ArchcError("ngram: a baseline learns from other text than it is measured on: give --learn FILES")
        learnt, texts = ([d.text.encode("utf-8", errors="replace") for d in part] for part in (on.learnt, on.texts))
        with on.progress(f"{self.order}-gram", self.order) as advance:
            model = NGramModel.fit(learnt, self.order, progress=advance)
        bits, size = model.bits_per_byte(texts), sum(map(len, texts))
        return (
            Figure("bits_per_byte", bits, "bits a byte", f"{bits:.4f}"),
            Figure("bytes", size, "bytes measured", f"{size:,}"),
            Figure("learnt_bytes", sum(map(len, learnt)), "bytes learnt from", f"{sum(map(len, learnt)):,}"),
        )
