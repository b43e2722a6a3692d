/* What moves a plotly figure can be reached by the Tab key: its slider answers to arrows, Page Up, Page Down, Home and
   End, its buttons to Enter and the space bar. `figures.interactive` says when a figure has been drawn. */
"use strict";

(() => {
  const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5, Home: -1e9, End: 1e9 };
  const BUTTONS = { "▶": "play", "◼": "stop" };

  function tell(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  }

  /* Plotly may draw a part anew: what is said of it is said after each drawing. */
  function describe(plot) {
    const [slider] = plot.layout.sliders || [], handle = plot.querySelector(".slider-group");
    if (slider && handle) {
      const { prefix, suffix } = slider.currentvalue, active = slider.active || 0;
      tell(handle, { tabindex: 0, role: "slider", "aria-label": prefix.replace(/[:\s]+$/, "") });
      tell(handle, { "aria-valuemin": 0, "aria-valuemax": slider.steps.length - 1, "aria-valuenow": active });
      tell(handle, { "aria-valuetext": slider.steps[active].label + suffix });
      handle.onkeydown = (event) => slide(plot, slider, event);
    }
    for (const button of plot.querySelectorAll(".updatemenu-button")) {
      const sign = button.textContent.trim();
      tell(button, { tabindex: 0, role: "button", "aria-label": BUTTONS[sign] || sign });
      button.onkeydown = (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        button.dispatchEvent(new MouseEvent("click", { bubbles: true }));
      };
    }
  }

  function slide(plot, slider, event) {
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const last = slider.steps.length - 1, now = plot.layout.sliders[0].active || 0;
    const { args } = slider.steps[Math.min(Math.max(now + STEPS[event.key], 0), last)];
    Plotly.animate(plot, ...args).then(() => describe(plot));
  }

  document.addEventListener("plotdrawn", ({ target }) => {
    describe(target);
    for (const name of ["plotly_afterplot", "plotly_animated", "plotly_sliderend"]) target.on(name, () => describe(target));
  });
})();
