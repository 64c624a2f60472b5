// Read-only code and differences. CodeMirror itself is loaded when something is to be shown.
import { useEffect, useRef, useState } from "preact/hooks";
import { Loading, Problem } from "../../ui/basics";
import type { Language } from "./modules";
import type { Look, Sides } from "./cm/view";

type Show = (cm: typeof import("./cm/view"), host: HTMLElement) => () => void;

function useCode(show: Show, dependencies: unknown[]) {
  const host = useRef<HTMLDivElement>(null);
  const [error, setError] = useState<unknown>();
  const [loading, setLoading] = useState(true);
  useEffect(() => {
    let end = (): void => {};
    let gone = false;
    import("./cm/view").then((cm) => {
      if (gone) return;
      end = show(cm, host.current!);
      setLoading(false);
    }).catch(setError);
    return () => {
      gone = true;
      end();
    };
  }, dependencies);
  return (
    <>
      {error !== undefined && <Problem error={error} what="The code cannot be shown." />}
      {loading && error === undefined && <Loading what="the code" />}
      <div class="code-host" ref={host} />
    </>
  );
}

export function CodeView(props: { text: string; label: string; language: Language }) {
  const { text, label, language } = props;
  return useCode((cm, host) => cm.showCode(host, text, label, language), [text, label, language]);
}

export function Differences(props: { sides: Sides; look: Look }) {
  const { sides, look } = props;
  return useCode((cm, host) => cm.showDifferences(host, sides, look),
    [sides.before, sides.after, sides.beforeLabel, sides.afterLabel, sides.language, look.unified, look.whole]);
}
