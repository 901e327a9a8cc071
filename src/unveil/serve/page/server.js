// Requests to the server, with its token.

import { t } from "./words.js";

const token = () => sessionStorage.getItem("token") ?? "";

export async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  const body = options.json === undefined ? undefined : JSON.stringify(options.json);
  const answer = await fetch(path, { method: options.method ?? "GET", headers, body, signal: options.signal });
  if (answer.status === 401) {
    const typed = prompt(t("token"));
    if (typed) {
      sessionStorage.setItem("token", typed);
      return request(path, options);
    }
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.detail ?? `${answer.status}`);
  }
  return answer;
}

export const json = async (path, options) => (await request(path, options)).json();
export const blob = async (path) => (await request(path)).blob();

// Call `each` with every change of a job.
export const follow = (id, each) => listen(`/api/jobs/${id}/events`, each);

// Call `each` with the data of every event, until the server ends them; EventSource cannot send a token.
export async function listen(path, each, signal) {
  const reader = (await request(path, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const line = part.split("\n").find((it) => it.startsWith("data: "));
      if (line) await each(JSON.parse(line.slice(6)));
    }
  }
}

export function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
