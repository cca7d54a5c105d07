// The names of classes that a person types: one class has one spelling, and its name can be that of a folder.

// Drawn as nothing, as in pipeline/base/similar_names.py.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/gu;
const BREAKING = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu;

// The class that a typed name means: the known one that reads like it, or a new one. Null where no folder can have it.
export function classOf(typed, known) {
  const name = typed.normalize("NFC").replace(BREAKING, "").trim();
  if (whatIsRead(name) === "" || name.startsWith(".") || /[/\\]/.test(name)) return null;
  if (known.includes(name)) return name;
  return known.find((other) => whatIsRead(other) === whatIsRead(name)) ?? name;
}

// What is left of a name without case, width, blanks and what cannot be seen. Upper case first: it makes SS of a sharp s.
function whatIsRead(name) {
  const seen = name.normalize("NFKC").replace(UNSEEN, "");
  return seen.toUpperCase().toLowerCase().normalize("NFKC");
}
