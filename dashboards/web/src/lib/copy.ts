/** Puts a text into the clipboard, or throws. `beside` is an element in the part of the page that takes clicks, such as an open dialog. */
export async function copyText(text: string, beside: Element): Promise<void> {
  if (navigator.clipboard !== undefined) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Over plain HTTP browsers give pages no clipboard; what is selected can still be copied.
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  beside.after(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  if (!done) throw new Error("This browser does not let the page copy: select the text, and copy it yourself.");
}
