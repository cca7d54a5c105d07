// The names of classes that a person types: one class has one spelling, and its name can be that of a folder.

// Drawn as nothing, as in pipeline/base/similar_names.py.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/gu;
// What systems leave in folders, as in runtime/system/litter.py: nobody looks for recordings there.
const LITTER = new Set([
  ".ds_store", ".localized", ".spotlight-v100", ".trashes", ".fseventsd", "__macosx",
  "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
  "@eadir", ".@__thumb", "#recycle", "@recycle", "lost+found",
]);
const WIDE_OR_NARROW = /[\uFF01-\uFFEE\u3000]/g;
const BREAKING = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu;

// The class that a typed name means: the known one that reads like it, or a new one. Null where no folder can have it.
export function classOf(typed, known) {
  const name = typed.normalize("NFC").replace(BREAKING, "").trim();
  if (whatIsRead(name) === "" || name.startsWith(".") || LITTER.has(name.toLowerCase()) || /[/\\]/.test(name)) return null;
  if (known.includes(name)) return name;
  return known.find((other) => whatIsRead(other) === whatIsRead(name)) ?? name;
}

// What is left of a name without case, width, blanks and what cannot be seen.
function whatIsRead(name) {
  const seen = name.normalize("NFC").replace(WIDE_OR_NARROW, usualWidth).replace(UNSEEN, "");
  // Upper case first: it makes SS of a sharp s. It would make an i of the dotless one, which is another letter.
  return seen.split("ı").map((part) => part.toUpperCase().toLowerCase()).join("ı").normalize("NFC");
}

function usualWidth(letter) {
  return letter === "\uFFE3" ? "\u00AF" : letter.normalize("NFKC"); // which makes two of the macron
}
