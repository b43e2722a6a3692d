"""What a training would need on a reader's own GPU: a form for the static page, in plain
JavaScript. It asks no other host and works from a file; all numbers are embedded when the page is
built, from the closed forms, the records of speed and the cards' data sheets.

Reads top to bottom: known (the numbers), calculator (the page's HTML), NEED (the arithmetic), FORM,
SCRIPT, STYLE.
"""

import html
import json
from dataclasses import dataclass

import pandas as pd

from astroformer.counting import closed_forms
from astroformer.counting.budget import FLOP_PER_MAC
from astroformer.counting.cards import CARDS, card_of
from astroformer.counting.memory import GB, MOST
from astroformer.sizes import IMAGE_SIZE, MODELS
from astroformer.speed import answers, memory_lines

SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)  # that every network takes
CLASSES = 10


def known(frame: pd.DataFrame) -> dict:
    """What the form knows, ready for JSON: multiply-adds of each network by pixels, its memory as
    lines in the number of images, the shares of cards' published rates that were measured; cards.
    """
    lines, shares = _lines(frame), measured_shares(frame)
    networks = {
        name: {
            "pixels": IMAGE_SIZE[name],
            "macs": {
                size: closed_forms.released_counts(name, image_size=size, num_classes=CLASSES).macs
                for size in SIZES
            },
            "memory": lines.get(name, {}),
            "shares": shares.get(name, []),
        }
        for name in MODELS
    }
    factor, more = MOST["cuda"]
    return {
        "networks": networks,
        "cards": [
            {
                "name": card.name,
                "tflops": card.tflops,
                "memory": card.memory,
                "watts": card.watts,
                "source": card.source,
            }
            for card in CARDS
        ],
        "operations": FLOP_PER_MAC,
        "factor": factor,
        "more": more / GB,
    }


def _lines(frame: pd.DataFrame) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for row in answers.of(frame, memory_lines.WHAT).to_dict("records"):
        kind = "plain" if row["contestant"] == "plain" else "checkpointing"
        found.setdefault(row["model"], {})[kind] = {
            name: row[name] / GB for name in ("least", "beside", "each")
        }
    return found


def measured_shares(frame: pd.DataFrame) -> dict[str, list[dict]]:
    """For each network the part of a card's published rate that its training reached: pixels,
    images of a step, device, share (0 to 1), the fastest way of each. Only of cards whose rate is
    known, in half precision.
    """
    found: dict[str, dict[tuple, dict]] = {}
    for what in ("step", "training"):
        for row in answers.of(frame, what).to_dict("records"):
            card = card_of(row["device"])
            own = answers.whose(row["contestant"]) == "ours" and row["precision"] in answers.HALF
            if card is None or not own:
                continue
            rate = FLOP_PER_MAC * row["macs"] * row["images_per_second"]
            one = {
                "pixels": int(row["image_size"]),
                "batch": int(row["batch_size"]),
                "device": row["device"],
                "share": rate / (card.tflops * 1e12),
            }
            best = found.setdefault(row["model"], {})
            key = (one["pixels"], one["batch"], one["device"])
            if key not in best or best[key]["share"] < one["share"]:
                best[key] = one
    return {name: list(best.values()) for name, best in found.items()}


@dataclass(frozen=True)
class Calculator:
    """The value of a page's cell."""

    known: dict

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": "A form: what would a training need?"}

    def html(self) -> str:
        # "</" would end the script that holds the numbers
        numbers = json.dumps(self.known).replace("</", "<\\/")
        networks = "".join(
            f"<option>{html.escape(name)}</option>" for name in self.known["networks"]
        )
        cards = "".join(
            f'<option value="{number}">{html.escape(card["name"])}</option>'
            for number, card in enumerate(self.known["cards"])
        )
        form = FORM.replace("NETWORKS", networks).replace("CARDS", cards)
        script = SCRIPT.replace("NUMBERS", numbers).replace("NEED", NEED)
        return f"<style>{STYLE}</style>{form}<script>{script}</script>"


def calculator(frame: pd.DataFrame) -> Calculator:
    """The form of a page, from `speed.kept.frame()`."""
    return Calculator(known(frame))


# The arithmetic alone: numbers in, numbers out. null is what cannot be told.
NEED = """
function need(known, asked) {
  const network = known.networks[asked.network];
  // 6 operations for a multiply-add: forward 2, backward 4; computing activations again adds 2
  const passes = known.operations + (asked.checkpointing ? 2 : 0);
  const operations = passes * network.macs[asked.pixels] * asked.images * asked.epochs;
  const rate = asked.tflops * 1e12 * asked.share / 100;
  const hours = rate > 0 ? operations / rate / 3600 : null;
  const line = network.memory[asked.checkpointing ? "checkpointing" : "plain"];
  const area = (asked.pixels / network.pixels) ** 2;
  const memory = line ? Math.max(line.least, line.beside + line.each * area * asked.batch) : null;
  return {
    operations, hours, memory,
    kwh: hours === null ? null : hours * asked.watts / 1000,
    most: memory === null ? null : known.factor * memory + known.more,
  };
}
function nearest(shares, pixels) {
  const far = (one) => Math.abs(Math.log(one.pixels / pixels));
  return shares.reduce((best, one) =>
    best === null || far(one) < far(best) || (far(one) === far(best) && one.share > best.share)
      ? one : best, null);
}
"""

FORM = """
<form class="calculator" id="calculator" onsubmit="return false">
<label>network <select name="network">NETWORKS</select></label>
<label>pixels a side <select name="pixels"></select></label>
<label>training images <input name="images" type="number" min="1" value="50000"></label>
<label>epochs <input name="epochs" type="number" min="1" value="300"></label>
<label>card <select name="card">CARDS<option value="">another card</option></select></label>
<label>its rate (TFLOP/s) <input name="tflops" type="number" min="0" step="any"></label>
<label>its power (W) <input name="watts" type="number" min="0" step="any"></label>
<label>its memory (GB) <input name="room" type="number" min="0" step="any"></label>
<label>share of the rate (%) <input name="share" type="number" min="0" max="100" step="any"></label>
<label>images at once <input name="batch" type="number" min="1" value="64"></label>
<label class="tick"><input name="checkpointing" type="checkbox"> gradient checkpointing</label>
<p class="note" id="calculator-share"></p>
<p class="note" id="calculator-card"></p>
<output aria-live="polite">
<span>time on one card <b id="calculator-hours"></b></span>
<span>energy of the card <b id="calculator-kwh"></b></span>
<span>memory <b id="calculator-memory"></b></span>
<span>operations <b id="calculator-operations"></b></span>
</output>
</form>
"""

SCRIPT = """
(() => {
const known = NUMBERS;
NEED
const form = document.getElementById("calculator"), field = form.elements;
const say = (name, words) => { document.getElementById("calculator-" + name).textContent = words; };
const short = (value) => Number(value.toPrecision(3)).toLocaleString("en");
const lasting = (hours) => hours < 1 / 60 ? short(hours * 3600) + " s"
  : hours < 1 ? short(hours * 60) + " min"
  : hours < 48 ? short(hours) + " h" : short(hours / 24) + " days";
const all = Object.entries(known.networks).filter(([, one]) => one.shares.length);
const told = (one) => short(100 * one.share) + " % on " + one.device + " at " + one.pixels +
  " pixels, " + one.batch + " images a step";
function fill() {
  const network = known.networks[field.network.value], before = Number(field.pixels.value);
  field.pixels.replaceChildren(...Object.keys(network.macs).map((size) => new Option(size)));
  field.pixels.value = network.macs[before] && fill.begun ? before : network.pixels;
  fill.begun = true;
  field.checkpointing.disabled = !network.memory.checkpointing;
  if (field.checkpointing.disabled) field.checkpointing.checked = false;
  share();
}
function share() {
  const network = known.networks[field.network.value];
  const one = nearest(network.shares, Number(field.pixels.value));
  field.share.value = one ? (100 * one.share).toPrecision(3) : "";
  say("share", one ? "The share was measured for " + field.network.value + ": " + told(one) + "."
    : "The share is not measured for " + field.network.value + ": give one. " + (all.length
      ? "Measured were: " + all.map(([name, own]) => name + " " +
        told(nearest(own.shares, own.pixels))).join("; ") + "." : "None is measured yet."));
}
function card() {
  const one = known.cards[field.card.value];
  if (one) [field.tflops.value, field.watts.value, field.room.value] =
    [one.tflops, one.watts, one.memory];
  say("card", one ? "The card's numbers: " + one.source + "; dense, bfloat16."
    : "The card's numbers are yours; give the dense rate in bfloat16.");
}
function show() {
  const asked = { network: field.network.value, checkpointing: field.checkpointing.checked };
  for (const name of ["pixels", "images", "epochs", "tflops", "watts", "share", "batch"])
    asked[name] = Number(field[name].value);
  const found = need(known, asked), room = Number(field.room.value);
  say("hours", found.hours === null ? "not known: give a share and a rate" : lasting(found.hours));
  say("kwh", found.kwh === null ? "not known" : short(found.kwh) + " kWh at most");
  say("operations", short(found.operations / 1e15) + " PFLOP");
  say("memory", found.memory === null ? "not predicted"
    : short(found.memory) + " GB, with a reserve " + short(found.most) + " GB: " +
      (found.most <= room ? "fits" : found.memory <= room ? "may not fit" : "does not fit") +
      " " + short(room) + " GB");
}
form.addEventListener("input", (event) => {
  const name = event.target.name;
  if (name === "network") fill();
  if (name === "pixels") share();
  if (name === "card") card();
  if (["tflops", "watts", "room"].includes(name)) { field.card.value = ""; card(); }
  show();
});
field.network.value = (all[0] || ["astroformer_3"])[0];
fill(); field.card.value = "2"; card(); show();
})();
"""

STYLE = """
.calculator { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr));
  gap: 0.7rem 1rem; padding: 1rem; border: 1px solid var(--astro-rule, #cbd5e1);
  border-radius: 8px; }
.calculator label { display: flex; flex-direction: column; gap: 0.2rem; font-size: 0.85em;
  justify-content: flex-end; }
.calculator .tick { flex-direction: row; align-items: center; justify-content: flex-start; }
.calculator :is(select, input:not([type="checkbox"])) { font: inherit; font-size: 1rem;
  width: 100%; padding: 0.25rem 0.4rem; box-sizing: border-box; color: inherit;
  background: var(--pst-color-surface, transparent); border: 1px solid var(--astro-rule, #94a3b8);
  border-radius: 4px; }
.calculator .note { grid-column: 1 / -1; margin: 0; font-size: 0.85em; }
.calculator output { grid-column: 1 / -1; display: grid; gap: 0.3rem; padding-top: 0.7rem;
  border-top: 1px solid var(--astro-rule, #cbd5e1); }
.calculator output span { display: flex; flex-wrap: wrap; gap: 0 0.8rem; }
.calculator output b { font-variant-numeric: tabular-nums; }
"""
