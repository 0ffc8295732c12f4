// Opens and makes sealed cells by docs/format.md alone: a third party's reading of that page, in another language.
//
// One JSON object a line in, one a line out:
//   {"key", "cell", "field", "location_id", "token_url"}       -> {"plaintext"} or {"error"}
//   {"key", "plaintext", "field", "location_id", "token_url"}  -> {"cell"} or {"error"}
// In place of `token_url` there may be the `origin` itself.
// `error` is the word of the page: malformed, unknown key, tampered; or what is wrong with the request.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { createInterface } from "node:readline";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CELL = /^sealed:v1:([0-9a-f]{16}):([A-Za-z0-9_-]+)$/;
const SHORT = { 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\" };
const WHITE =
  "\\u0009-\\u000D\\u001C-\\u0020\\u0085\\u00A0\\u1680\\u2000-\\u200A\\u2028\\u2029\\u202F\\u205F\\u3000";
const OUTER_WHITE = new RegExp(`^[${WHITE}]+|[${WHITE}]+$`, "gu");

class Refusal extends Error {}

// The key

function keyOf(text) {
  for (const alphabet of ["base64", "base64url"]) {
    const raw = Buffer.from(text, alphabet);
    const padding = "=".repeat((3 - (raw.length % 3)) % 3);
    const written = alphabet === "base64" ? raw.toString("base64") : raw.toString("base64url") + padding;
    if (written === text && raw.length === 32 && raw.some((byte) => byte !== 0)) return raw;
  }
  throw new Refusal("no key");
}

const keyId = (key) => Buffer.from(hkdfSync("sha256", key, "", "token-refresh key id v1", 8)).toString("hex");

// The body: UTF-8 in which a lone surrogate is a code point like any other

function toBytes(text) {
  const parts = [];
  for (const character of text) {
    const code = character.codePointAt(0);
    const isLone = code >= 0xd800 && code <= 0xdfff;
    parts.push(
      isLone ? Buffer.from([0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)]) : Buffer.from(character),
    );
  }
  return Buffer.concat(parts);
}

function toText(bytes) {
  let text = "";
  let start = 0;
  const decode = (end) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(start, end));
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== 0xed || !(bytes[at + 1] >= 0xa0 && bytes[at + 1] <= 0xbf) || (bytes[at + 2] & 0xc0) !== 0x80) {
      continue;
    }
    text += decode(at) + String.fromCharCode(0xd000 | ((bytes[at + 1] & 63) << 6) | (bytes[at + 2] & 63));
    start = at + 3;
    at += 2;
  }
  return text + decode(bytes.length);
}

// The associated data

function quoted(text) {
  let written = '"';
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (SHORT[unit]) written += SHORT[unit];
    else if (unit >= 0x20 && unit <= 0x7e) written += text[at];
    else written += "\\u" + unit.toString(16).padStart(4, "0");
  }
  return written + '"';
}

function originOf(tokenUrl) {
  const match = /^(https?):\/\/(\[[0-9A-Fa-f:.]+\]|[^:/[\]]+)(?::([0-9]+))?(?:\/|$)/i.exec(tokenUrl);
  if (!match) throw new Refusal("no token endpoint");
  const scheme = match[1].toLowerCase();
  // The short form of an IPv6 address is what WHATWG's URL writes too.
  const host = match[2].startsWith("[") ? new URL(`https://${match[2]}/`).hostname : match[2].toLowerCase();
  const port = match[3] === undefined ? null : Number(match[3]);
  const isDefault = port === null || port === { https: 443, http: 80 }[scheme];
  return `${scheme}://${host.replace(/\.$/, "")}${isDefault ? "" : `:${port}`}`;
}

function associatedData(id, { field, location_id, token_url, origin }) {
  const parts = ["sealed:v1", id, field, location_id.replace(OUTER_WHITE, ""), origin ?? originOf(token_url)];
  return Buffer.from(`[${parts.map(quoted).join(",")}]`, "ascii");
}

// Cells

function open(request) {
  const key = keyOf(request.key);
  const match = CELL.exec(request.cell);
  const body = match && Buffer.from(match[2], "base64url");
  if (!match || body.toString("base64url") !== match[2] || body.length <= NONCE_BYTES + TAG_BYTES) {
    throw new Refusal("malformed");
  }
  if (match[1] !== keyId(key)) throw new Refusal("unknown key");
  const cipher = createDecipheriv("aes-256-gcm", key, body.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(match[1], request));
  cipher.setAuthTag(body.subarray(-TAG_BYTES));
  let plaintext;
  try {
    plaintext = Buffer.concat([cipher.update(body.subarray(NONCE_BYTES, -TAG_BYTES)), cipher.final()]);
  } catch {
    throw new Refusal("tampered");
  }
  try {
    return { plaintext: toText(plaintext) };
  } catch {
    throw new Refusal("malformed");
  }
}

function seal(request) {
  if (request.plaintext === "") throw new Refusal("empty");
  const key = keyOf(request.key);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(keyId(key), request));
  const ciphertext = Buffer.concat([cipher.update(toBytes(request.plaintext)), cipher.final()]);
  return { cell: `sealed:v1:${keyId(key)}:${Buffer.concat([nonce, ciphertext, cipher.getAuthTag()]).toString("base64url")}` };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = "cell" in request ? open(request) : seal(request);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
