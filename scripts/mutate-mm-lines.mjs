/** What `npm run mutate -- --sample` has Stryker say: a line a mutant, as soon as it is known. */
import { relative } from 'node:path';
import { declareClassPlugin, PluginKind } from '@stryker-mutator/api/plugin';

class Lines {
  left = 0;
  began = 0;

  onDryRunCompleted({ result, timing }) {
    console.log(
      `${result.tests.length} tests pass in ${Math.round(timing.net / 1000)} s, and ${Math.round(timing.overhead / 1000)} s around them.\n`,
    );
  }

  onMutationTestingPlanReady({ mutantPlans }) {
    this.left = mutantPlans.filter(({ mutant }) => mutant.status !== 'Ignored').length;
    this.began = Date.now();
  }

  onMutantTested({ fileName, location: { start }, mutatorName, replacement, status, testsCompleted }) {
    if (status === 'Ignored') return;
    const place = `${relative('sdk/mm', relative(process.cwd(), fileName))}:${start.line}:${start.column} ${mutatorName}`;
    const seconds = ((Date.now() - this.began) / 1000).toFixed(0);
    console.log(
      `${String(--this.left).padStart(4)} left ${seconds.padStart(6)} s  ${status.padEnd(11)} ${place} ${replacement.replace(/\s+/g, ' ').slice(0, 60)}  (${testsCompleted ?? 0} tests)`,
    );
  }
}

export const strykerPlugins = [declareClassPlugin(PluginKind.Reporter, 'lines', Lines)];
