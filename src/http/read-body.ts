import { RequestRefused } from "./request-refused.ts";

/** The body as text. More than enough is not read: the length that is told may be a lie. Rejects with RequestRefused (413). */
export async function readBodyText(request: Request, mostBytes: number): Promise<string> {
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

/** The body as a JSON object; {} for none. Rejects with RequestRefused (400, 413). */
export async function readBodyObject(
  request: Request,
  mostBytes: number,
): Promise<Readonly<Record<string, unknown>>> {
  const body = await readBodyText(request, mostBytes);
  if (body.trim() === "") return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw invalidRequest("The body is no JSON");
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw invalidRequest("The body must be a JSON object");
  }
  return parsed as Readonly<Record<string, unknown>>;
}

export function invalidRequest(title: string, detail?: string): RequestRefused {
  return new RequestRefused({
    status: 400,
    code: "INVALID_REQUEST",
    title,
    ...(detail !== undefined && { detail }),
  });
}
