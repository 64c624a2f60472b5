// What the runtime said of code that does not run, with the ways to its places.
import { useEffect, useRef } from "preact/hooks";
import type { Diagnostic, Place } from "./diagnostics";

export function DiagnosticList(props: { diagnostics: Diagnostic[]; onGo: (place: Place) => void }) {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => element.current!.scrollIntoView({ block: "nearest" }), [props.diagnostics]);
  return (
    <div class="note bad" role="alert" ref={element}>
      <p><strong>The code does not run, so nothing was saved.</strong> The runtime says:</p>
      {props.diagnostics.map((d) => (
        <div key={d.message}>
          <pre class="code-said">{d.message}</pre>
          {d.places.length > 0 && (
            <p class="row small">
              {d.places.map((p, i) => (
                <span key={`${p.module} ${p.line} ${i}`}>{i === 0 ? "at " : "called at "}
                  <button type="button" class="code-place" onClick={() => props.onGo(p)}>{p.module}, line {p.line}, column {p.column + 1}</button>
                </span>
              ))}
            </p>
          )}
        </div>
      ))}
    </div>
  );
}
