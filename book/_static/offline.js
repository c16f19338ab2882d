/* A page opened from a folder may not read its neighbours, so search shows titles there, and summaries on a server. */
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";
