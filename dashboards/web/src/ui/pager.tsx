// Turns the pages of a list; the page that is shown is in the address.
import type { ResultInfo } from "../api/client";
import { formatCount } from "../lib/format";
import { useSearch } from "../lib/url";

/** The number of the page that the address names, from 1. */
export function pageOf(get: (name: string) => string | undefined): number {
  const page = Number(get("page"));
  return Number.isInteger(page) && page > 0 ? page : 1;
}

export function Pager(props: { info: ResultInfo | undefined; what: string }) {
  const search = useSearch();
  const { info, what } = props;
  if (!info || (info.total_count <= info.per_page && info.page === 1)) return null;
  const first = (info.page - 1) * info.per_page + 1;
  const link = (page: number): string => search.link({ page: page === 1 ? undefined : String(page) });
  if (info.count === 0) { // an address from when the list was longer, or made by hand
    return (
      <nav class="row spread" aria-label={`Pages of ${what}`}>
        <span class="quiet">{info.total_count === 0 ? `There are no ${what}` : `Page ${formatCount(info.page)} is past the end: there are ${formatCount(info.total_count)} ${what}`}.</span>
        <a class="button compact" href={link(1)}>First page</a>
      </nav>
    );
  }
  return (
    <nav class="row spread" aria-label={`Pages of ${what}`}>
      <span class="small quiet">{formatCount(first)} to {formatCount(first + info.count - 1)} of {formatCount(info.total_count)}</span>
      <span class="row">
        {info.page > 1 && <a class="button compact" href={link(info.page - 1)}>Previous page</a>}
        {first + info.count <= info.total_count && <a class="button compact" href={link(info.page + 1)}>Next page</a>}
      </span>
    </nav>
  );
}
