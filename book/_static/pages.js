/* A page opened from a folder may not read its neighbours, so search shows titles there, and summaries on a server. */
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";

/* What scrolls sideways can be reached with the keyboard. */
function letScroll() {
  for (const box of document.querySelectorAll(".bd-article table, .bd-article pre, .bd-article mjx-container")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
addEventListener("load", letScroll);
addEventListener("resize", letScroll);
addEventListener("toggle", letScroll, true); /* a box that opens */

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
