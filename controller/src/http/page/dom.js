// Elements and lists. Names come from reports and manifests: they only ever become text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Sets attributes; null and false take one away. */
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      node.removeAttribute(name);
    } else if (node.getAttribute(name) !== String(value)) {
      node.setAttribute(name, value);
    }
  }
  return node;
}

/** An HTML element with attributes and children (nodes or text). */
export function el(tag, attributes = {}, ...children) {
  const node = set(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

/** An SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const node = set(document.createElementNS(SVG, tag), attributes);
  node.append(...children);
  return node;
}

/** Sets text, and leaves what is there where it is the same: a selection or a reader's place is kept. */
export function say(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

const known = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in order; a child stays the same node as long as its key does.
 * `parent` must have no other children.
 */
export function keyed(parent, items, key, create, update) {
  const before = known.get(parent) ?? new Map();
  const after = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    if (after.has(name)) continue;
    const node = before.get(name) ?? create(item);
    after.set(name, node);
    update(node, item);
    if (node === place) {
      place = place.nextSibling;
    } else {
      parent.insertBefore(node, place);
    }
  }
  for (const [name, node] of before) {
    if (!after.has(name)) node.remove();
  }
  known.set(parent, after);
}

/** Terms and values; an absent value leaves its term out. */
export function facts(list, pairs) {
  keyed(
    list,
    pairs.filter(([, value]) => value !== null && value !== undefined),
    ([term]) => term,
    ([term]) => el("div", {}, el("dt", {}, term), el("dd")),
    (node, [, value]) => say(node.lastChild, value),
  );
}

/** Cells of a table's row. */
export function cells(row, values) {
  keyed(
    row,
    values.map((value, index) => ({ ...value, index })),
    (value) => value.index,
    (value) => el(value.head ? "th" : "td", value.head ? { scope: value.head } : {}),
    (node, value) => {
      say(node, value.text);
      node.className = value.class ?? "";
    },
  );
}

/** Width that `node` gives its content, never nothing. */
export function widthOf(node) {
  return Math.max(node.clientWidth, 240);
}
