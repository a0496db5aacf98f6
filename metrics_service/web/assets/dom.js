/**
 * Draws a tree of plain objects into the document, and changes in place only what differs, so that
 * focus, hover and open details stay. Text is only ever a text node: nothing is parsed as HTML.
 */

const SVG = 'http://www.w3.org/2000/svg';
// Characters that a reader cannot see, or that turn the text around them: shown as their code.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Foreign text, with each unseen character as its code. */
export const plain = (text) =>
  String(text).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** A node: `key` keeps it among its siblings, `on...` are handlers. */
export const h = (tag, props, ...kids) => ({ tag, props: props ?? {}, kids });

/** Make the children of an element what the nodes say. */
export function render(parent, nodes, svg = false) {
  const keyed = new Map();
  for (const child of parent.childNodes) if (child.key != null) keyed.set(child.key, child);
  let at = parent.firstChild;
  for (const node of nodes.flat(Infinity)) {
    if (node == null || node === false || node === '') continue;
    const found = match(node, node.props?.key == null ? at : keyed.get(String(node.props.key)));
    const child = found ?? create(node, svg);
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
    update(child, node, svg);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function match(node, child) {
  if (!child) return null;
  if (!node.tag) return child.nodeType === 3 ? child : null;
  return child.tag === node.tag && child.key === keyOf(node) ? child : null;
}

const keyOf = (node) => (node.props.key == null ? undefined : String(node.props.key));

function create(node, svg) {
  if (!node.tag) return document.createTextNode('');
  const inSvg = svg || node.tag === 'svg';
  const child = inSvg ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  return Object.assign(child, { tag: node.tag, key: keyOf(node), props: {} });
}

function update(child, node, svg) {
  if (!node.tag) {
    const text = plain(node);
    if (child.data !== text) child.data = text;
    return;
  }
  const old = child.props;
  for (const name in old) if (!(name in node.props)) set(child, name, null);
  for (const name in node.props) if (old[name] !== node.props[name]) set(child, name, node.props[name]);
  child.props = node.props;
  render(child, node.kids, svg || node.tag === 'svg');
  // A select takes its value only once its options are there.
  if ('value' in node.props && child.value !== node.props.value) child.value = node.props.value;
}

// The handler of the newest drawing: the listener itself stays, however often that changes.
const call = (event) => event.currentTarget.props[`on${event.type}`]?.(event);

function listen(child, name, value) {
  const wanted = value ? call : null;
  if (child[name] !== wanted) child[name] = wanted;
}

function set(child, name, value) {
  if (name === 'key' || name === 'value') return;
  if (name.startsWith('on')) listen(child, name, value);
  else if (value == null || value === false) child.removeAttribute(name);
  else child.setAttribute(name, value === true ? '' : plain(value));
}
