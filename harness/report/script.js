"use strict";
// A link to folded evidence unfolds it.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  target.scrollIntoView();
  (target.tagName === "DETAILS" ? target.firstElementChild : target).focus({preventScroll: true});
}
addEventListener("hashchange", unfold);
// The same link a second time changes nothing in the address.
addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) unfold();
});
unfold();
for (const input of document.querySelectorAll("input[data-search]")) {
  const lines = document.getElementById(input.dataset.search).querySelectorAll("li");
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    let found = 0;
    for (const line of lines) {
      line.hidden = !line.textContent.toLowerCase().includes(wanted);
      line.style.display = line.hidden ? "none" : "";
      found += !line.hidden;
    }
    input.closest("p").querySelector("output").textContent = wanted ? `${found} of ${lines.length} lines` : "";
  });
}
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll(".failure details")) each.open = true; });
