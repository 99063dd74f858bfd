// Messages to the user: errors, and how to get a secure page.

const $ = (id) => document.getElementById(id);

/** Show an error as the server words it: what is wrong, why, what to do. */
export function showError({ what, why, fix }, action) {
  const text = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = sentence(what);
  text.append(strong, ...[why, fix].filter(Boolean).map((part) => ` ${sentence(part)}`));
  $("error").replaceChildren(
    text,
    button(action?.label ?? "Close", () => {
      hideError();
      action?.run();
    }),
  );
}

/** Take the error away. */
export function hideError() {
  $("error").replaceChildren();
}

/** Tell the user something that is no error. */
export function showNotice(text) {
  const line = document.createElement("p");
  line.textContent = sentence(text);
  const close = button("Close", () => $("notice").replaceChildren());
  $("notice").replaceChildren(line, close);
}

/** Say what a page without a secure context lacks, and how to get one. */
export function showSecureNote({ protocol, hostname, port, pathname }) {
  const at = port || (protocol === "https:" ? "443" : "80");
  const text = document.createElement("p");
  text.append(
    "This page is not secure, so the browser gives it no microphone and no video decoder: " +
      "pictures come as JPEG. Open it by HTTPS, or run ",
    code(`ssh -L ${at}:localhost:${at} ${hostname}`),
    " on your computer and open ",
    code(`http://localhost:${at}${pathname}`),
    ".",
  );
  $("secure").replaceChildren(
    text,
    button("Close", () => ($("secure").hidden = true)),
  );
  $("secure").hidden = false;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function code(text) {
  const element = document.createElement("code");
  element.textContent = text;
  return element;
}

function button(label, run) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.onclick = run;
  return element;
}
