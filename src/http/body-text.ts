import { RequestRefused } from "./request-refused.ts";

/**
 * The body as text. More than enough is not read: the length that is told may be a lie. Rejects with RequestRefused (413) when there is
 * more.
 */
export async function bodyText(request: Request, mostBytes: number): Promise<string> {
  const reader = request.body?.getReader();
  if (!reader) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes += part.value.byteLength;
    if (bytes > mostBytes) {
      await reader.cancel();
      throw new RequestRefused({
        status: 413,
        code: "BODY_TOO_LARGE",
        title: `The body is larger than ${mostBytes} bytes`,
      });
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}
