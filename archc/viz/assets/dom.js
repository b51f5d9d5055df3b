// Making elements. Text always becomes a text node: a name from a spec can never be markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

// element("td", {class: "number"}, "8.89B")
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

// shape("rect", {x: 0, y: 0, width: 10, height: 10})
function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

const byId = (id) => document.getElementById(id);
