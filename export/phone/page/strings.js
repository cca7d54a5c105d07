// The page's texts: one JSON table for each language, strings.<language>.json.

import { bytesOf } from "./files.js";

const FIRST_LANGUAGE = "en";
// What is told before any table is there.
let table = {
  refused_title: "No answers",
  file_missing: "{name} cannot be loaded. Load the page again; if that does not help, make it again with pipe phone.",
  no_decompression: "This browser cannot unpack the page. Use a newer browser, or the folder form of the page.",
  unexpected: "Something unexpected happened: {reason}. Load the page again.",
};

// Reads the table of the browser's first language that the page has. English fills what a table lacks.
export async function loadStrings(languages) {
  const wanted = (navigator.languages ?? [navigator.language]).map((name) => name.split("-")[0]);
  const language = wanted.find((name) => languages.includes(name)) ?? FIRST_LANGUAGE;
  for (const name of new Set([FIRST_LANGUAGE, language])) {
    const json = new TextDecoder().decode(await bytesOf(`strings.${name}.json`));
    table = { ...table, ...JSON.parse(json) };
  }
  document.documentElement.lang = language;
}

// The text of a key, with {name} replaced by its value. A key without a text is shown itself.
export function text(key, values = {}) {
  const found = table[key] ?? key;
  return found.replace(/\{(\w+)\}/g, (braces, name) => (name in values ? String(values[name]) : braces));
}

// Writes the texts into all elements that name one: data-text for their content, data-label for screen readers.
export function fillTexts(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
}

// A share as whole percent. Only the whole is 100 %, and only nothing is 0 %.
export function percent(share) {
  const rounded = Math.round(share * 100);
  if (rounded === 100 && share < 1) return text("above_percent", { percent: 99 });
  if (rounded === 0 && share > 0) return text("below_percent", { percent: 1 });
  return text("percent", { percent: rounded });
}
