/* A page opened from a folder may not read its neighbours, so search shows titles there, and summaries on a server. */
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";

/* What scrolls sideways can be reached with the keyboard, and fades where there is more. */
function letScroll() {
  for (const box of document.querySelectorAll(".bd-article table, .bd-article pre, .bd-article mjx-container")) {
    const hidden = box.scrollWidth - box.clientWidth;
    if (hidden > 0) box.tabIndex = 0;
    box.classList.toggle("saelite-more", hidden - box.scrollLeft > 1);
  }
}
addEventListener("load", letScroll);
addEventListener("resize", letScroll);
addEventListener("scroll", letScroll, true);
addEventListener("toggle", letScroll, true); /* a box that opens */

/* On a phone the rows of a table of prose are stacked: each cell then says which column it is of. */
addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-article table.table:not(.dataframe, .indextable)")) {
    const heads = [...table.querySelectorAll("thead th")].map(head => head.textContent.trim());
    if (heads.length < 3 || !heads.every(Boolean) || table.closest(".handout, .saelite-slider")) continue;
    table.classList.add("saelite-stacks");
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, i) => cell.dataset.head = heads[i]);
    }
  }
});

/* Sphinx calls the bibliography a list, though its entries, which have a role of their own, are no list items. */
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".citation-list[role=list]").forEach(list => list.removeAttribute("role"));
});

/* Paper is white: a page that is read in the dark is printed in light colours. */
const root = document.documentElement;
let onScreen;
addEventListener("beforeprint", () => {
  onScreen = root.dataset.theme;
  root.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  root.dataset.theme = onScreen;
});
