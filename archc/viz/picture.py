"""`archc show --svg`: a model as one picture: every layer as a bar, the stack with repeats folded, what is biggest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from archc.ir.cost import cost_sheet
from archc.ir.cost_sheet import CostSheet
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.units import format_count, format_params, format_size
from archc.viz.colours import PLAIN, Colour, colour
from archc.viz.fields import sizes_text
from archc.viz.structure import Drawn, Part, Repeat, outline, standing, title, title_op
from archc.viz.summary import STATE_AT, summarise
from archc.viz.svg import Canvas

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay

WIDTH, MARGIN, STREAM = 920, 20, 44
_STACK = 560  # right edge of the stack; the table of kinds stands beside it
_ROW, _GAP, _HEAD, _INDENT = 40, 8, 24, 12


def picture(graph: Graph, overlays: Sequence[Overlay] = ()) -> str:
    """The picture of a graph; its layers are coloured by the score of the first overlay that has scores."""
    return _Picture(graph, _scores(overlays)).drawn()


def _scores(overlays: Sequence[Overlay]) -> tuple[str, Mapping[str, float]] | None:
    """The title and scores by node of the first overlay that has any."""
    for overlay in overlays:
        found = {name: values["*"] for name, values in overlay.nodes.items() if "*" in values}
        scores = {name: value for name, value in found.items() if isinstance(value, float)}
        if scores:
            return overlay.title, scores
    return None


@dataclass
class _Picture:
    graph: Graph
    scores: tuple[str, Mapping[str, float]] | None
    y: float = 0.0

    def __post_init__(self) -> None:
        self.canvas = Canvas(WIDTH)
        self.sheet: CostSheet = cost_sheet(self.graph, context=STATE_AT, batch=1)
        self.params = {node: cost.params for cost in self.sheet.nodes for node in cost.nodes}

    def drawn(self) -> str:
        """The file's text."""
        self.headline()
        self.strip()
        top = self.y
        self.stack()
        bottom = self.y
        self.kinds(top + 14)
        return self.canvas.svg(max(bottom, self.y) + 12, f"{self.graph.name}, drawn by archc")

    # -- the model at a glance -----------------------------------------------------------------------------------------

    def headline(self) -> None:
        """Name and totals."""
        params, memory = self.sheet.params, self.sheet.memory
        active = f", {format_params(params.active)} active" if params.active != params.total else ""
        more = f", multi-token prediction {format_params(params.mtp)} more" if params.mtp else ""
        totals = f"{format_params(params.total)} parameters{active}{more}"
        told = summarise(self.graph)
        growing, fixed = format_size(told.state_bytes_per_token), format_size(told.state_bytes_fixed)
        state = f"state of a sequence at {format_count(STATE_AT)}: {growing} a token and {fixed} fixed"
        weights = f"weights {format_size(memory.weights_bytes)} in {self.sheet.formats['weights']}"
        self.canvas.text(MARGIN, 34, self.graph.name, size=22, style="strong", width=WIDTH - 2 * MARGIN)
        self.canvas.text(MARGIN, 56, f"{totals}  ·  {weights}", size=13, style="quiet")
        self.canvas.text(MARGIN, 74, state, size=13, style="quiet")
        self.y = 92

    def strip(self) -> None:
        """Every layer as a bar: its height the parameters, its colour the kind, or the score."""
        blocks = self.graph.blocks.get(LAYERS, ())
        values = [self.block_params(self.graph.block_nodes(LAYERS, block)) for block in blocks]
        step = (WIDTH - 2 * MARGIN) / max(len(blocks), 1)
        for i, (block, value) in enumerate(zip(blocks, values, strict=True)):
            nodes = self.graph.block_nodes(LAYERS, block)
            tall = max(3.0, 44 * value / max(values))
            x, paint = MARGIN + i * step, self.paint(nodes)
            name = f"layer {i}: {title(nodes)}, {format_params(value)}"
            self.canvas.rect(x + step * 0.08, self.y + 46 - tall, step * 0.84, tall, fill=paint.fill, title=name)
            if step >= 7:
                letter, size = title_op(nodes).usual_letter(), min(12, step + 2)
                self.canvas.text(x + step / 2, self.y + 58, letter, size=size, style="quiet", anchor="middle")
        self.y += 76 if blocks else 0

    def kinds(self, top: float) -> None:
        """Kinds of node with their share of the parameters, the largest first."""
        total = self.sheet.params.total
        left, right = _STACK + 28, WIDTH - MARGIN
        self.canvas.text(left, top + 12, "Share of the parameters", style="strong")
        y = top + 34.0
        for kind, count, params in self.by_kind():
            paint, letter = colour(kind), self.letters.get(kind, "")
            if letter:
                self.canvas.rect(left, y - 13, 18, 17, fill=paint.fill, rx=4)
                self.canvas.text(left + 9, y, letter, style="strong on", anchor="middle")
            self.canvas.text(left + 26, y, f"{kind} ×{count}", width=right - left - 130)
            self.canvas.text(right - 62, y, f"{params / total:.1%}", anchor="end")
            self.canvas.text(right, y, format_params(params), style="quiet", anchor="end")
            self.canvas.rect(left + 26, y + 5, (right - left - 26) * params / total, 5, fill=paint.fill, rx=2)
            y += 30
        self.y = max(self.y, y)
        self.legend(left, y, right - left)

    def legend(self, left: float, y: float, width: float) -> None:
        """What colour stands for, where it is not the kind."""
        if self.scores is not None:
            low, high = min(self.scores[1].values()), max(self.scores[1].values())
            self.canvas.text(left, y + 8, f"Colour: {self.scores[0]}, {low:.3g} to {high:.3g}", width=width)
            self.y = max(self.y, y + 20)

    def by_kind(self) -> list[tuple[str, int, int]]:
        """(kind, how many, parameters) outside multi-token prediction."""
        found: dict[str, tuple[int, int]] = {}
        for cost in self.sheet.nodes:
            if cost.params and not cost.mtp:
                count, params = found.get(cost.kind, (0, 0))
                found[cost.kind] = (count + cost.count, params + cost.params * cost.count)
        return sorted(((kind, *figures) for kind, figures in found.items()), key=lambda one: -one[2])

    @property
    def letters(self) -> dict[str, str]:
        """Letters of the kinds that a spec can name."""
        ops = {node.op.kind: node.op for node in self.graph.nodes if type(node.op).Fields is not None}
        return {kind: op.usual_letter() for kind, op in ops.items()}

    # -- the stack -----------------------------------------------------------------------------------------------------

    def stack(self) -> None:
        """From top to bottom: the main stream, then that of multi-token prediction."""
        for mtp in (False, True):
            rows = list(self.entries(mtp))
            if rows and mtp:
                steps = self.graph.mtp_steps
                again = ", every step by the same parameters" if steps > 1 else ""
                told = f"multi-token prediction, {steps} step{'s' if steps > 1 else ''}{again}"
                self.canvas.text(STREAM + 34, self.y + 12, told, style="quiet")
                self.y += 24
            if rows:
                self.stream(rows)

    def entries(self, mtp: bool) -> Iterator[Node | str]:
        """What stands on the main stream, or on that of multi-token prediction."""
        for each in standing(self.graph):
            of_mtp = each == MTP_LAYERS if isinstance(each, str) else self.graph.in_mtp(each)
            if of_mtp == mtp:
                yield each

    def stream(self, entries: Sequence[Node | str]) -> None:
        """One residual stream with everything on it; what reads a node before it hangs from that."""
        at = len(self.canvas.parts)
        begin = end = self.y + _ROW / 2
        before: Node | str = ""
        for entry in entries:
            hangs = isinstance(entry, Node) and isinstance(before, Node) and entry.inputs[:1] == (before.id,)
            if isinstance(entry, str):
                self.parts(entry, list(self.placed(entry, outline(self.graph, entry))), STREAM + 34, _STACK)
            else:
                self.node(entry, "feeds" if not before else "hangs" if hangs else "reads")
            end = end if hangs else self.y - _GAP - _ROW / 2
            before = entry
        self.canvas.parts.insert(at, f'<path d="M{STREAM},{begin:g} V{end:g}" class="stream"/>')
        self.y += _GAP

    def placed(self, region: str, parts: Sequence[Part]) -> Iterator[Part]:
        """The parts without blocks that only refer to others."""
        for part in parts:
            inner = tuple(self.placed(region, part.parts)) if isinstance(part, Repeat) else ()
            if isinstance(part, Repeat) and inner:
                yield Repeat(part.times, inner, part.where)
            elif isinstance(part, Drawn) and part.blocks[0] in self.graph.blocks[region]:
                yield part

    def parts(self, region: str, parts: Sequence[Part], left: float, right: float) -> None:
        """Blocks and repeats of a region."""
        for part in parts:
            if isinstance(part, Repeat):
                self.repeat(region, part, left, right)
            else:
                self.block(part, left, right)

    def repeat(self, region: str, part: Repeat, left: float, right: float) -> None:
        """A frame around what repeats."""
        top, at = self.y, len(self.canvas.parts)
        self.canvas.text(left + 10, top + 16, f"{part.times} ×", style="strong")
        self.canvas.text(right - 10, top + 16, part.where, size=11, style="quiet", anchor="end")
        self.y += _HEAD
        self.parts(region, part.parts, left + _INDENT, right - _INDENT)
        frame = Canvas(0)
        frame.rect(left, top, right - left, self.y - top, style="frame", rx=8)
        self.canvas.parts[at:at] = frame.parts
        self.y += _GAP

    def block(self, part: Drawn, left: float, right: float) -> None:
        """A block that reads the stream and adds to it."""
        nodes = self.graph.block_nodes(part.region, part.blocks[0])
        detail = sizes_text(title_op(nodes))
        many = f" ×{len(part.blocks)}" if len(part.blocks) > 1 else ""
        letter = title_op(nodes).usual_letter()
        where = part.where if many else part.where.replace("layers ", "layer ", 1)
        self.shades(left, right, [self.paint(self.graph.block_nodes(part.region, b)).fill for b in part.blocks])
        self.label(left, right, f"{letter} {title(nodes)}{many}", where, self.block_params(nodes), style=" on")
        self.canvas.text(left + 12, self.y + 32, detail, size=11, style="on", width=right - left - 24)
        self.canvas.arrow(STREAM, left, self.y + 10)
        back = self.y + _ROW - 10
        self.canvas.path(f"M{left:g},{back:g} H{STREAM + 5}", style="wire")
        self.canvas.circle(STREAM, back, 5, style="joint")
        self.canvas.path(f"M{STREAM - 3},{back:g} h6 M{STREAM},{back - 3:g} v6", style="wire")
        self.y += _ROW + _GAP

    def shades(self, left: float, right: float, fills: Sequence[str]) -> None:
        """The ground of a row: one shade, or where its layers differ one for each, side by side."""
        shown = fills if len(set(fills)) > 1 else fills[:1]
        step = (right - left) / len(shown)
        for i, fill in enumerate(shown):
            self.canvas.rect(left + i * step, self.y, step, _ROW, fill=fill, rx=6 if len(shown) == 1 else 0)

    def node(self, node: Node, place: Literal["feeds", "reads", "hangs"]) -> None:
        """A node by itself: the first feeds the stream, others read it, or hang from the node before."""
        left, middle = STREAM + 34, self.y + _ROW / 2
        self.canvas.rect(left, self.y, _STACK - left, _ROW, style="plain", rx=6)
        kind = "" if node.op.kind == node.role else node.op.kind
        self.label(left, _STACK, node.role, kind, self.params.get(node.id, 0))
        self.canvas.text(left + 12, self.y + 32, self.shared(node), size=11, style="quiet", width=_STACK - left - 24)
        if place == "hangs":
            self.canvas.path(f"M{left + 24},{self.y - _GAP:g} V{self.y:g}", style="wire")
        elif place == "feeds":
            self.canvas.path(f"M{left},{middle:g} H{STREAM}", style="wire")
            self.canvas.circle(STREAM, middle, 4, style="joint")
        else:
            self.canvas.arrow(STREAM, left, middle)
        self.y += _ROW + _GAP

    def label(self, left: float, right: float, name: str, where: str, params: int, style: str = "") -> None:
        """The first line of a box: what it is, where it stands, its parameters."""
        count = format_params(params) if params else ""
        self.canvas.text(left + 12, self.y + 17, name, size=13, style=f"strong{style}", width=(right - left) * 0.4)
        self.canvas.text(
            left + (right - left) * 0.42, self.y + 17, where, style=style.strip(), width=(right - left) * 0.42
        )
        self.canvas.text(right - 10, self.y + 17, count, style=f"strong{style}", anchor="end")

    def shared(self, node: Node) -> str:
        """The sizes of a node, or whose parameters it uses."""
        return f"parameters of {node.owner}" if node.owner else sizes_text(node.op)

    # -- figures -------------------------------------------------------------------------------------------------------

    def block_params(self, nodes: Sequence[Node]) -> int:
        """Parameters of a block."""
        return sum(self.params[node.id] for node in nodes)

    def paint(self, nodes: Sequence[Node]) -> Colour:
        """The colour of a block: of its kind, or of the mean of its scores."""
        if self.scores is None:
            return colour(title_op(nodes).kind)
        values = self.scores[1]
        mine = [values[node.id] for node in nodes if node.id in values]
        return heat(sum(mine) / len(mine), min(values.values()), max(values.values())) if mine else PLAIN


def heat(value: float, low: float, high: float) -> Colour:
    """From pale to strong blue, as the page shades numbers."""
    share = (value - low) / (high - low) if high > low else 0.5
    return Colour(f"hsl({212 - 12 * share:.0f} {45 + 25 * share:.0f}% {90 - 45 * share:.0f}%)")
