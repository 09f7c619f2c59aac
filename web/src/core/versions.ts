/** Several versions of one thing, of which one is shown. Pure. */

/** The versions that are not shown, in their order, and the place of the shown one among all. */
export interface Others<Version> {
  place: number;
  rest: Version[];
}

export function none<Version>(): Others<Version> {
  return { place: 0, rest: [] };
}

export function countOf({ rest }: Others<unknown>): number {
  return rest.length + 1;
}

/** What the others are once a new version, behind all, is shown instead. */
export function behind<Version>(others: Others<Version>, shown: Version): Others<Version> {
  const rest = others.rest.toSpliced(others.place, 0, shown);
  return { place: rest.length, rest };
}

/**
 * The version at `place` and what the others are then.
 *
 * @param shown The one that is shown until now; null drops it, and the places behind it move up.
 */
export function swapped<Version>(others: Others<Version>, shown: Version | null, place: number): [Version, Others<Version>] | null {
  const all = shown === null ? others.rest : others.rest.toSpliced(others.place, 0, shown);
  const to = shown === null && place > others.place ? place - 1 : place;
  const chosen = all[to];
  return chosen === undefined ? null : [chosen, { place: to, rest: all.toSpliced(to, 1) }];
}
