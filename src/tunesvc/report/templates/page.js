"use strict";
(() => {
  const places = [...document.querySelectorAll("[data-figure]")];
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  const draw = (place) => {
    if (place.dataset.done) return;
    place.dataset.done = "yes";
    const known = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    Plotly.newPlot(place, known.data, known.layout, settings);
  };
  for (const place of places) place.style.minHeight = `${place.dataset.height}px`;
  const next = () => {
    const place = places.find((each) => !each.dataset.done);
    if (place) { draw(place); setTimeout(next); } else document.documentElement.dataset.drawn = "yes";
  };
  setTimeout(next);
  addEventListener("beforeprint", () => {
    places.forEach(draw);
    document.querySelectorAll("[data-figure]").forEach((place) => Plotly.Plots.resize(place));
  });
  addEventListener("afterprint", () => places.forEach((place) => Plotly.Plots.resize(place)));
})();
