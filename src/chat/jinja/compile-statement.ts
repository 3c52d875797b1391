/** Statements as closures. */
import { callValue, compileArguments, compileExpression, type Evaluate } from './compile-expression.ts';
import { JinjaError, typeError } from './errors.ts';
import { LoopContext, type Recurse } from './loop.ts';
import { type CompiledMacro, Macro } from './macro.ts';
import { iterate, lengthOf, truthy, unpack } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { Scope } from './scope.ts';
import type { Expression, MacroBody, Statement, Target } from './syntax.ts';
import { str } from './text.ts';
import { Namespace, type Value } from './values.ts';

/** How a statement ended: whether the loop around it goes on. */
export const proceed = 0;
const leave = 1;
const skip = 2;
export type Flow = typeof proceed | typeof leave | typeof skip;
export type Execute = (rt: Runtime, scope: Scope) => Flow;
type Assign = (rt: Runtime, scope: Scope, value: Value) => void;

export function compileStatements(statements: readonly Statement[]): Execute {
  const compiled = statements.map(compileStatement);
  if (compiled.length === 1) return compiled[0];
  return (rt, scope) => {
    for (const execute of compiled) {
      const flow = execute(rt, scope);
      if (flow !== proceed) return flow;
    }
    return proceed;
  };
}

function compileStatement(statement: Statement): Execute {
  switch (statement.kind) {
    case 'text': {
      const { text } = statement;
      return run((rt) => rt.write(text));
    }
    case 'print': {
      const value = compileExpression(statement.value);
      return run((rt, scope) => rt.write(str(rt, value(rt, scope))));
    }
    case 'set': {
      const assign = compileTarget(statement.target);
      const value = compileExpression(statement.value);
      return run((rt, scope) => assign(rt, scope, value(rt, scope)));
    }
    case 'capture':
      return compileCapture(statement);
    case 'if':
      return compileIf(statement);
    case 'for':
      return compileFor(statement);
    case 'break':
      return () => leave;
    case 'continue':
      return () => skip;
    case 'macro': {
      const macro = compileMacro(statement.macro);
      return run((_, scope) => scope.set(statement.name, new Macro(statement.name, macro, scope)));
    }
    case 'call':
      return compileCallBlock(statement);
    case 'filter': {
      const filtered = compileFiltered(statement.filter, compileStatements(statement.body));
      return run((rt, scope) => rt.write(str(rt, filtered(rt, scope))));
    }
    case 'with':
      return compileWith(statement);
    case 'block': {
      const body = compileStatements(statement.body);
      return run((rt, scope) => body(rt, new Scope(scope)));
    }
    case 'unloadable':
      return () => {
        throw typeError('no loader for this environment specified');
      };
  }
}

/** A statement that cannot leave a loop. */
function run(execute: (rt: Runtime, scope: Scope) => unknown): Execute {
  return (rt, scope) => {
    rt.step();
    execute(rt, scope);
    return proceed;
  };
}

function compileTarget(target: Target | Expression): Assign {
  switch (target.kind) {
    case 'name': {
      const { name } = target;
      return (_, scope, value) => scope.set(name, value);
    }
    case 'namespace': {
      const { name, attribute } = target;
      return (_, scope, value) => {
        const namespace = scope.get(name);
        if (!(namespace instanceof Namespace)) throw new JinjaError('TemplateRuntimeError', 'cannot assign attribute on non-namespace object');
        namespace.attributes.set(attribute, value);
      };
    }
    case 'tuple': {
      const parts = target.items.map(compileTarget);
      return (rt, scope, value) => {
        const values = unpack(rt, value, parts.length);
        parts.forEach((assign, i) => {
          assign(rt, scope, values[i]);
        });
      };
    }
    default:
      throw new JinjaError('TemplateSyntaxError', `can't assign to '${target.kind}'`);
  }
}

/** What the body writes, through the filter. */
function compileFiltered(filter: Expression | null, body: Execute): Evaluate {
  const captured: Evaluate = (rt, scope) => rt.capture(() => body(rt, new Scope(scope)));
  return filter === null ? captured : compileExpression(filter, captured);
}

function compileCapture(statement: Statement & { kind: 'capture' }): Execute {
  const assign = compileTarget(statement.target);
  const value = compileFiltered(statement.filter, compileStatements(statement.body));
  return run((rt, scope) => assign(rt, scope, value(rt, scope)));
}

function compileIf(statement: Statement & { kind: 'if' }): Execute {
  const branches = statement.branches.map(([test, body]) => ({ test: compileExpression(test), body: compileStatements(body) }));
  const otherwise = compileStatements(statement.otherwise);
  return (rt, scope) => {
    rt.step();
    for (const { test, body } of branches) if (truthy(test(rt, scope))) return body(rt, scope);
    return otherwise(rt, scope);
  };
}

function compileFor(statement: Statement & { kind: 'for' }): Execute {
  const items = compileExpression(statement.items);
  const assign = compileTarget(statement.target);
  const test = statement.test === null ? null : compileExpression(statement.test);
  const body = compileStatements(statement.body);
  const otherwise = compileStatements(statement.otherwise);

  const loopOver = (rt: Runtime, outer: Scope, value: Value, recurse: Recurse | null, depth0: number): void => {
    const source = iterate(rt, value);
    const chosen = test === null ? source : passing(rt, outer, source, assign, test);
    const loop = new LoopContext(rt, chosen, test === null ? lengthOf(rt, value) : undefined, recurse, depth0);
    let isEmpty = true;
    for (let item = loop.next(); item !== undefined; item = loop.next()) {
      isEmpty = false;
      rt.step();
      const scope = new Scope(outer);
      scope.set('loop', loop);
      assign(rt, scope, item);
      if (body(rt, scope) === leave) break;
    }
    if (isEmpty) otherwise(rt, new Scope(outer));
  };

  return run((rt, scope) => {
    const recurse: Recurse | null = statement.recursive
      ? (again, inner, depth) => again.nested(() => again.capture(() => loopOver(again, scope, inner, recurse, depth)))
      : null;
    loopOver(rt, scope, items(rt, scope), recurse, 0);
  });
}

/** The items that the condition of a loop lets through; read one by one. */
function* passing(rt: Runtime, outer: Scope, source: Iterable<Value>, assign: Assign, test: Evaluate): Generator<Value> {
  for (const item of source) {
    rt.step();
    const scope = new Scope(outer);
    assign(rt, scope, item);
    if (truthy(test(rt, scope))) yield item;
  }
}

function compileMacro(syntax: MacroBody): CompiledMacro {
  return { syntax, defaults: syntax.defaults.map((value) => compileExpression(value)), body: compileStatements(syntax.body) };
}

function compileCallBlock(statement: Statement & { kind: 'call' }): Execute {
  const callee = compileExpression(statement.call.callee);
  const { args, kwargs } = compileArguments(statement.call.call);
  const macro = compileMacro(statement.macro);
  return run((rt, scope) => {
    const named = new Map(kwargs(rt, scope));
    named.set('caller', new Macro('caller', macro, scope));
    rt.write(str(rt, callValue(rt, callee(rt, scope), args(rt, scope), named)));
  });
}

function compileWith(statement: Statement & { kind: 'with' }): Execute {
  const targets = statement.targets.map(compileTarget);
  const values = statement.values.map((value) => compileExpression(value));
  const body = compileStatements(statement.body);
  return (rt, scope) => {
    rt.step();
    const inner = new Scope(scope);
    targets.forEach((assign, i) => {
      assign(rt, inner, values[i](rt, scope));
    });
    return body(rt, inner);
  };
}
