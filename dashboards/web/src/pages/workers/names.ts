// What the API would refuse of a new script, said while it is typed. The server checks
// again, and has the last word.

const scriptCharsMax = 63; // a script's name is a label of a host name

export function scriptNameProblem(name: string): string | undefined {
  if (name === "") return "A script needs a name.";
  if (name.length > scriptCharsMax) return `The name has ${name.length} characters: at most ${scriptCharsMax} fit into a host name.`;
  if (/[A-Z]/.test(name)) return "The name is part of a host name: use lower-case letters.";
  if (/^-|-$/.test(name)) return "The name must neither begin nor end with a dash.";
  if (!/^[a-z0-9_-]+$/.test(name)) return "The name may have lower-case letters, digits, dashes and underscores.";
  return undefined;
}

const schemes = ["http:", "https:", "h2c:"];
const urlBytesMax = 2048;

export function originProblem(text: string): string | undefined {
  if (text === "") return "Name the server by its URL, such as http://10.0.0.5:9000.";
  if (new TextEncoder().encode(text).length > urlBytesMax) return `The URL is longer than ${urlBytesMax} bytes.`;
  const scheme = /^([a-z][a-z0-9+.-]*:)\/\//i.exec(text)?.[1]?.toLowerCase();
  if (!scheme || !schemes.includes(scheme)) return "The URL must begin with http://, https:// or h2c:// (HTTP/2 without TLS, as gRPC servers speak).";
  // The URL parser of a browser knows the parts of a host only for the schemes of the web.
  const url = URL.parse(text.replace(/^h2c:/i, "http:"));
  if (!url || url.hostname === "") return "This is not a URL, such as http://10.0.0.5:9000.";
  if (url.username !== "" || url.password !== "") return "Leave user name and password out: everybody who may read the version would see them.";
  if (text.includes("?") || text.includes("#")) return "The URL must have no query and no fragment: the request's own are passed on.";
  return undefined;
}
