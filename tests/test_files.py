"""Files that are replaced whole, and CSV tables whose columns may come and go."""

from multiprocessing import get_context

import pytest

from utils.files import append_row, read_rows, replace_file, write_rows


def append_many(path, writer):
    for i in range(20):
        append_row(path, {'writer': writer, 'i': i, f'only_{writer}': 1})


def test_rows_keep_their_values_where_columns_differ(tmp_path):
    append_row(tmp_path / 'a.csv', {'x': 1, 'y': 'a,b'})
    append_row(tmp_path / 'a.csv', {'x': 2, 'z': 3})
    assert read_rows(tmp_path / 'a.csv') == [
        {'x': '1', 'y': 'a,b', 'z': ''},
        {'x': '2', 'y': '', 'z': '3'},
    ]


def test_rows_replace_what_was_there(tmp_path):
    write_rows(tmp_path / 'a.csv', [{'x': 1}, {'x': 2}])
    write_rows(tmp_path / 'a.csv', [{'y': 'two\nlines'}])
    assert read_rows(tmp_path / 'a.csv') == [{'y': 'two\nlines'}]
    assert read_rows(tmp_path / 'none.csv') == []


def test_processes_that_write_at_once_lose_no_row(tmp_path):
    path = tmp_path / 'a.csv'
    context = get_context('fork')
    writers = [context.Process(target=append_many, args=(path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted((row['writer'], int(row['i'])) for row in read_rows(path)) == [
        (str(writer), i) for writer in range(4) for i in range(20)
    ]


@pytest.mark.parametrize('is_synced', [False, True])
def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path, is_synced):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with replace_file(path, is_synced=is_synced) as file:
        file.write('new')
        file.flush()
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / 'a.bin'
    path.write_bytes(b'old')
    with pytest.raises(error), replace_file(path, 'wb') as file:
        file.write(b'half')
        raise error
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_its_line_ends_stay(tmp_path):
    with replace_file(tmp_path / 'a.txt') as file:
        file.write('ä\r\nb\n')
    assert (tmp_path / 'a.txt').read_bytes() == 'ä\r\nb\n'.encode()


def test_a_damaged_table_loses_the_cells_that_have_no_column(tmp_path):
    (tmp_path / 'a.csv').write_text(f'x\n1,2,3\n"{"4" * 200_000}\n')
    first, second = read_rows(tmp_path / 'a.csv')
    assert first == {'x': '1'}
    assert len(second['x']) > 100_000
