/* What the tests ask of a page that is open in a browser. Each function answers with lines for a person, none where
   all is well. */
(() => {
  const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
  const GRAVE = ["serious", "critical"];
  const FOR_EARS = "mjx-assistive-mml, .visually-hidden, .sr-only, .skip-link, #pst-skip-link";

  function named(element) {
    const id = element.id ? `#${element.id}` : "";
    const classes = Array.from(element.classList, (name) => `.${name}`).join("");
    const words = (element.innerText || "").trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${element.tagName.toLowerCase()}${id}${classes}> "${words}"`;
  }

  /* What a click would open is open, or it would not be judged; of a long list of runs the first. */
  function open() {
    const runs = Array.from(document.querySelectorAll("article details.runs")).slice(3);
    for (const part of document.querySelectorAll("article details")) part.open = !runs.includes(part);
  }

  async function settled() {
    await window.MathJax?.startup?.promise;
    await window.plotlyReady;
    await document.fonts.ready;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  }

  /* What axe is asked: all but the contrast of colours, or this alone, of each pair of colours once: where a page has
     thousands of words of code, it would take most of axe's time. */
  const ASKED = {
    structure: () => [document, { runOnly: RULES, rules: { "color-contrast": { enabled: false } } }],
    colours: () => [{ include: differing() }, { runOnly: ["color-contrast"] }],
  };

  async function axeFindings(what) {
    const [where, options] = ASKED[what]();
    /* preload: axe would ask for the style sheets again */
    const { violations } = await axe.run(where, { ...options, preload: false, resultTypes: ["violations"] });
    return violations.filter(({ impact }) => GRAVE.includes(impact)).flatMap(({ id, impact, nodes }) =>
      nodes.map(({ any, all, none, target, html }) => {
        const why = [...any, ...all, ...none].map(({ message }) => message).join("; ").slice(0, 200);
        return `${impact} ${id}: ${target.join(" ")}: ${html.slice(0, 200).replace(/\s+/g, " ")}: ${why}`;
      }));
  }

  /* Elements with text, of each colour, size and ground that with the longest: axe does not judge single letters. */
  function differing() {
    const grounds = new Map([[null, ""]]), found = new Map();
    const ground = (element) => {
      if (!grounds.has(element)) {
        const { backgroundColor, backgroundImage, opacity } = getComputedStyle(element);
        const own = [backgroundColor, backgroundImage, opacity].join(" ").replace("rgba(0, 0, 0, 0) none 1", "");
        grounds.set(element, ground(element.parentElement) + (own && `/${own}`));
      }
      return grounds.get(element);
    };
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const element = walk.currentNode.parentElement, { length } = walk.currentNode.data.trim();
      if (!length || !element.checkVisibility({ visibilityProperty: true })) continue;
      const { color, fontSize, fontWeight } = getComputedStyle(element);
      const key = [color, fontSize, fontWeight, ground(element)].join();
      if (length > (found.get(key)?.length ?? 0)) found.set(key, { element, length });
    }
    return Array.from(found.values(), ({ element }) => element);
  }

  function wide() {
    const { scrollWidth } = document.documentElement;
    return scrollWidth > innerWidth ? [`the page is ${scrollWidth} pixels wide in a window of ${innerWidth}`] : [];
  }

  /* Boxes that show a part of what they hold: those that scroll sideways, and those that hide what sticks out. */
  function cut() {
    const found = [];
    for (const box of document.querySelectorAll("main *")) {
      if (!(box instanceof HTMLElement) || !box.clientWidth || box.closest(FOR_EARS)) continue;
      const { overflowX, overflowY } = getComputedStyle(box);
      if (["auto", "scroll"].includes(overflowX) && box.scrollWidth > box.clientWidth + 1) {
        found.push(`cut, ${box.scrollWidth} in ${box.clientWidth} pixels, scrolls: ${named(box)}`);
      } else if ([overflowX, overflowY].some((way) => ["hidden", "clip"].includes(way))) {
        const part = sticking(box, overflowX !== "visible", overflowY !== "visible");
        if (part) found.push(`cut, hidden: ${named(part)} in ${named(box)}`);
      }
    }
    return found;
  }

  function sticking(box, sideways, down) {
    const around = box.getBoundingClientRect();
    return Array.from(box.querySelectorAll("*")).find((part) => {
      if (part.childElementCount || part.closest(FOR_EARS) || !part.checkVisibility({ visibilityProperty: true })) return false;
      const one = part.getBoundingClientRect();
      if (!one.width || !one.height || part.matches("mjx-strut, mjx-tstrut, mjx-nstrut, mjx-dstrut")) return false;
      return (sideways && (one.right > around.right + 1 || one.left < around.left - 1))
        || (down && one.bottom > around.bottom + 1 && part.textContent.trim());
    });
  }

  return { open, settled, axeFindings, wide, cut };
})()
