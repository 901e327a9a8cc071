// The gallery: pictures with their settings, what to do with them, and all of them as a file.

import { t } from "./words.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const kept = new Map(); // list item: [name, Blob, address]

function make(tag, key, text) {
  const it = document.createElement(tag);
  if (key) it.dataset.t = key;
  if (key || text) it.textContent = key ? t(key) : text;
  return it;
}

function save(address, name) {
  const link = make("a");
  [link.href, link.download] = [address, name];
  link.click();
}

function tools() {
  $("gallery-tools").hidden = kept.size === 0;
  $("empty").hidden = kept.size > 0;
}

// Put a picture in front.
//
// said: its infotext; title: what it shows; actions: [word, function] pairs; wide: it takes a row of its own.
export function add(data, { name, said = "", title, actions, wide = false }) {
  const address = URL.createObjectURL(data);
  const [item, figure, image, caption, row] = ["li", "figure", "img", "figcaption", "div"].map((tag) => make(tag));
  image.src = address;
  image.alt = title;
  const [first, ...rest] = said.split("\n");
  caption.append(make("span", "", first || title));
  caption.firstChild.className = "title";
  if (rest.length) {
    const more = make("details");
    more.append(make("summary", "details"), make("p", "", rest.join("\n")));
    caption.append(more);
  }
  row.className = "actions";
  const link = make("a", "download");
  [link.href, link.download] = [address, name];
  row.append(link);
  for (const [key, act] of actions) {
    const button = make("button", key);
    button.type = "button";
    button.addEventListener("click", act);
    row.append(button);
  }
  item.classList.toggle("whole", wide);
  figure.append(image, caption, row);
  item.append(figure);
  $("gallery").prepend(item);
  kept.set(item, [name, data, address]);
  tools();
}

$("download-all").addEventListener("click", async () => {
  const address = URL.createObjectURL(await zip([...kept.values()].map(([name, data]) => [name, data])));
  save(address, "unveil.zip");
  setTimeout(() => URL.revokeObjectURL(address), 60000);
});
$("clear").addEventListener("click", () => {
  for (const [, , address] of kept.values()) URL.revokeObjectURL(address);
  kept.clear();
  $("gallery").replaceChildren();
  tools();
});
